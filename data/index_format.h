// Constants of the .idx format, shared by its reader and its writer. Layout: data/README.md#index.
#pragma once

#include <cstdint>

namespace unipool::index_format {

constexpr char kMagic[] = "MMIDIDX\0";  // nine bytes including the terminating zero
constexpr int64_t kMagicBytes = sizeof(kMagic);
constexpr uint64_t kVersion = 1;

// Byte offsets in the file.
constexpr int64_t kVersionAt = 9;
constexpr int64_t kDtypeAt = 17;
constexpr int64_t kSequencesAt = 18;
constexpr int64_t kDocumentsAt = 26;
constexpr int64_t kHeaderBytes = 34;

// Dtype codes that are read. Megatron's other codes are not used for token ids.
constexpr int kUint8 = 1;
constexpr int kInt32 = 4;
constexpr int kUint16 = 8;

// The name of a Megatron dtype that is not read, for error messages, as " (int64)"; "" for any
// other code.
constexpr const char* TypeName(int code) {
  constexpr const char* kNames[] = {"", "",         " (int8)",    " (int16)",
                                    "", " (int64)", " (float64)", " (float32)"};
  return code >= 0 && code < 8 ? kNames[code] : "";
}

}  // namespace unipool::index_format
