// Runs an op on the CPU and on a GPU and compares the results: the CPU in float32, the GPU in
// float32 and in bfloat16. Each tensor has its own allocation, so reading or writing past its end
// is detected.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/context.h"
#include "runtime/ops/compute.h"
#include "runtime/tensor.h"
#include "tests/support/tolerance.h"

namespace unipool::testing {

enum class Precision { kFloat32, kBFloat16 };

struct BothDevicesOptions {
  bool bfloat16 = true;  // false if the op does not support bfloat16
  double looser = 1;     // factor of the tolerance
};

// Copies of an op's tensors on the device. Tensors that share memory on the host share it on the
// device.
class DeviceCopies {
 public:
  DeviceCopies();

  Context& ctx() { return ctx_; }
  // Replaces a host tensor by a copy on the device; a float32 tensor is converted to bfloat16 if
  // `rounded`.
  void Move(Tensor* tensor, bool rounded);
  // Returns the values as doubles.
  std::vector<double> Read(const Tensor& tensor);

 private:
  struct Copy {
    const void* host;
    Tensor on_device;
  };
  std::vector<Buffer> buffers_;
  std::vector<Copy> copies_;
  std::unique_ptr<Stream> stream_;
  Context ctx_;
};

// Returns a copy of the host tensor in `storage`, rounded to bfloat16 and back if `rounded`.
Tensor CopyOnHost(const Tensor& tensor, bool rounded, std::vector<Buffer>& storage);
std::vector<double> ToDoubles(const Tensor& tensor);
void ExpectClose(const std::string& what, const std::vector<double>& actual,
                 const std::vector<double>& expected, Tolerance tolerance);
void ExpectSameBits(const std::string& what, const std::vector<double>& a,
                    const std::vector<double>& b);

// `op` holds host tensors: inputs have values, outputs are NaN (or have values, if the op adds to
// them). Members listed in `keep` stay float32 on the device (statistics, gradients of parameters);
// those in `on_host` stay in host memory. The op runs twice on the device and must give the same
// bits.
template <typename Op>
struct BothDevices {
  Op op;
  std::vector<Tensor Op::*> keep = {};
  std::vector<Tensor Op::*> on_host = {};
  BothDevicesOptions options = {};

  void Expect() {
    ExpectFor(Precision::kFloat32);
    if (options.bfloat16) ExpectFor(Precision::kBFloat16);
  }

 private:
  // All tensor members, each once.
  static std::vector<Tensor*> TensorsOf(Op& of) {
    std::vector<Tensor*> tensors;
    for (const Tensor* tensor : of.Inputs()) tensors.push_back(const_cast<Tensor*>(tensor));
    for (const Tensor* tensor : of.Outputs()) tensors.push_back(const_cast<Tensor*>(tensor));
    std::sort(tensors.begin(), tensors.end());
    tensors.erase(std::unique(tensors.begin(), tensors.end()), tensors.end());
    return tensors;
  }
  static bool Contains(const std::vector<Tensor Op::*>& members, Op& of, const Tensor* tensor) {
    return std::any_of(members.begin(), members.end(),
                       [&](auto member) { return &(of.*member) == tensor; });
  }

  std::vector<std::vector<double>> RunOnCpu(bool rounded) {
    std::vector<Buffer> storage;
    std::vector<std::pair<const void*, Tensor>> seen;
    Op cpu = op;
    for (Tensor* tensor : TensorsOf(cpu)) {
      if (tensor->absent()) continue;
      const auto same = std::find_if(seen.begin(), seen.end(),
                                     [&](const auto& pair) { return pair.first == tensor->data; });
      const void* original = tensor->data;
      if (same != seen.end() && !tensor->empty()) {
        tensor->data = same->second.data;
        continue;
      }
      *tensor = CopyOnHost(*tensor, rounded && !Contains(keep, cpu, tensor), storage);
      if (!tensor->empty()) seen.emplace_back(original, *tensor);
    }
    Context ctx;
    const auto stream = Stream::Create(Device{});
    ctx.stream = stream.get();
    Compute(ctx, cpu);
    std::vector<std::vector<double>> outputs;
    for (const Tensor* output : cpu.Outputs()) outputs.push_back(ToDoubles(*output));
    return outputs;
  }

  std::vector<std::vector<double>> RunOnGpu(bool rounded) {
    DeviceCopies copies;
    Op gpu = op;
    for (Tensor* tensor : TensorsOf(gpu)) {
      if (tensor->absent() || Contains(on_host, gpu, tensor)) continue;
      copies.Move(tensor, rounded && !Contains(keep, gpu, tensor));
    }
    Compute(copies.ctx(), gpu);
    copies.ctx().stream->Synchronize();
    std::vector<std::vector<double>> outputs;
    for (const Tensor* output : gpu.Outputs()) outputs.push_back(copies.Read(*output));
    return outputs;
  }

  void ExpectFor(Precision precision) {
    const bool rounded = precision == Precision::kBFloat16;
    const auto expected = RunOnCpu(rounded), actual = RunOnGpu(rounded), again = RunOnGpu(rounded);
    Tolerance tolerance = rounded ? kBFloat16Tolerance : kFloat32Tolerance;
    tolerance.share *= options.looser;
    for (size_t i = 0; i < expected.size(); ++i) {
      const std::string what = std::string(Op::kName) + " in " +
                               (rounded ? "bfloat16" : "float32") + ", output " + std::to_string(i);
      ExpectClose(what, actual[i], expected[i], tolerance);
      ExpectSameBits(what, actual[i], again[i]);
    }
  }
};

// The same for an op that has no tensors on the host.
template <typename Op>
void ExpectOnBothDevices(const Op& op, std::vector<Tensor Op::*> keep = {},
                         BothDevicesOptions options = {}) {
  BothDevices<Op>{.op = op, .keep = std::move(keep), .options = options}.Expect();
}

}  // namespace unipool::testing
