// The constants of an .idx file, for its reader and its writer; the layout is in data/README.md.
#pragma once

#include <cstdint>

namespace unipool::index_format {

constexpr char kMagic[] = "MMIDIDX\0";  // nine bytes with the one that ends the literal
constexpr int64_t kMagicBytes = sizeof(kMagic);
constexpr uint64_t kVersion = 1;

constexpr int64_t kVersionAt = 9;
constexpr int64_t kDtypeAt = 17;
constexpr int64_t kSequencesAt = 18;
constexpr int64_t kDocumentsAt = 26;
constexpr int64_t kHeaderBytes = 34;

// Codes of the types of ids that are read; the rest of Megatron's list is not for tokens.
constexpr int kUint8 = 1;
constexpr int kInt32 = 4;
constexpr int kUint16 = 8;

// " (int64)" of Megatron's codes that are not read; "" of all others.
constexpr const char* TypeName(int code) {
  constexpr const char* kNames[] = {"", "",         " (int8)",    " (int16)",
                                    "", " (int64)", " (float64)", " (float32)"};
  return code >= 0 && code < 8 ? kNames[code] : "";
}

}  // namespace unipool::index_format
