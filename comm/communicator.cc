#include "comm/communicator.h"

#include <glog/logging.h>

#include <functional>
#include <numeric>

namespace unipool {
namespace {

int64_t Sum(absl::Span<const int64_t> rows) {
  int64_t sum = 0;
  for (const int64_t r : rows) {
    CHECK_GE(r, 0);
    sum += r;
  }
  return sum;
}

}  // namespace

void CheckReduceScatter(const Communicator& comm, const Tensor& input, const Tensor& output) {
  CHECK(input.dtype == output.dtype) << input.ShapeString() << " to " << output.ShapeString();
  CHECK_EQ(output.numel() * comm.size(), input.numel())
      << input.ShapeString() << " to " << output.ShapeString() << " over " << comm.size()
      << " ranks";
}

void CheckAllGather(const Communicator& comm, const Tensor& input, const Tensor& output) {
  CHECK(input.dtype == output.dtype) << input.ShapeString() << " to " << output.ShapeString();
  CHECK_EQ(input.numel() * comm.size(), output.numel())
      << input.ShapeString() << " to " << output.ShapeString() << " over " << comm.size()
      << " ranks";
}

void CheckAllToAllV(const Communicator& comm, const Tensor& input,
                    absl::Span<const int64_t> send_rows, const Tensor& output,
                    absl::Span<const int64_t> recv_rows) {
  CHECK_EQ(static_cast<int>(send_rows.size()), comm.size());
  CHECK_EQ(static_cast<int>(recv_rows.size()), comm.size());
  CHECK_GE(input.rank, 1);
  CHECK_GE(output.rank, 1);
  CHECK(input.dtype == output.dtype) << input.ShapeString() << " to " << output.ShapeString();
  CHECK_EQ(RowBytes(input), RowBytes(output))
      << input.ShapeString() << " to " << output.ShapeString();
  CHECK_LE(Sum(send_rows), input.dim(0)) << input.ShapeString();
  CHECK_LE(Sum(recv_rows), output.dim(0)) << output.ShapeString();
}

int64_t RowBytes(const Tensor& tensor) {
  return std::accumulate(tensor.dims + 1, tensor.dims + tensor.rank,
                         static_cast<int64_t>(SizeOf(tensor.dtype)), std::multiplies<>());
}

}  // namespace unipool
