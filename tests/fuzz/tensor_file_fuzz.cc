// Fuzzes a safetensors file. If it opens, all tensors must lie in the file and be readable as
// declared.
#include <algorithm>
#include <vector>

#include "runtime/tensor_store.h"
#include "tests/fuzz/fuzz_target.h"

using unipool::testing::FuzzFile;
using unipool::testing::Require;
using unipool::testing::RequireOneLine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFile file(".safetensors");
  file.Fill(data, size);
  const auto opened = unipool::TensorFile::Open(file.path());
  if (!opened.ok()) {
    RequireOneLine(std::string(opened.status().message()));
    return 0;
  }
  for (const std::string& name : (*opened)->names()) {
    const auto info = (*opened)->Info(name);
    Require(info.ok(), "a tensor that is listed has an entry");
    Require(0 <= info->begin && 0 <= info->bytes &&
                info->begin + info->bytes <= static_cast<int64_t>(size),
            "a tensor lies in the file");
    if (info->shape.size() > unipool::Tensor::kMaxRank) continue;
    std::vector<double> memory(static_cast<size_t>(info->bytes) / sizeof(double) + 1);
    unipool::Tensor out = unipool::Tensor::View(memory.data(), info->dtype, {}, {});
    out.rank = static_cast<int>(info->shape.size());
    std::copy(info->shape.begin(), info->shape.end(), out.dims);
    Require((*opened)->Read(name, out).ok(), "a tensor of an open file can be read");
  }
  return 0;
}
