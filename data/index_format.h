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

// Megatron's dtype codes of token ids. Its types of floating point numbers are refused.
constexpr int kUint8 = 1;
constexpr int kInt8 = 2;
constexpr int kInt16 = 3;
constexpr int kInt32 = 4;
constexpr int kInt64 = 5;
constexpr int kUint16 = 8;

// The name of a Megatron dtype; "" for any other code.
constexpr const char* TypeName(int code) {
  constexpr const char* kNames[] = {"",      "uint8",   "int8",    "int16", "int32",
                                    "int64", "float64", "float32", "uint16"};
  return code >= 0 && code <= 8 ? kNames[code] : "";
}

// The mode of text in a multimodal index.
constexpr int kTextMode = 0;

}  // namespace unipool::index_format
