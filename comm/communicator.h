// A group of ranks and what they can do together. Every rank of the group makes the same calls in
// the same order. A communicator starts no thread and picks no stream: the work happens on the
// stream given, and tensors must stay alive and untouched until that stream has passed it. A failed
// transport call, or a wait beyond the deadline, ends all ranks with a line that names the
// operation, its number and the rank that waited.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

enum class ReduceOp : uint8_t { kSum, kMax };

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual DeviceType device_type() const = 0;

  // In place; every rank gets the same bits. float32, float64, int32 or int64.
  virtual void AllReduce(Tensor x, ReduceOp op, Stream& stream) = 0;
  // Rank r gets the sum over ranks of the r-th of `size` equal parts of `input` in `output`;
  // output.numel() * size() == input.numel(). `output` may be that very part of `input`.
  virtual void ReduceScatter(Tensor input, Tensor output, Stream& stream) = 0;
  // Each rank's `input` ends up as the r-th of `size` equal parts of everyone's `output`.
  // `input` may be that very part of `output`.
  virtual void AllGather(Tensor input, Tensor output, Stream& stream) = 0;
  // Sends send_rows[r] rows of `input` to each rank r, in rank order, and receives recv_rows[r]
  // rows from each into `output`, in rank order. A row is everything but the first dimension; rows
  // are of equal size on all ranks. Counts are in host memory, one per rank, and may be zero.
  virtual void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                         absl::Span<const int64_t> recv_rows, Stream& stream) = 0;
  virtual void Broadcast(Tensor x, int root, Stream& stream) = 0;
  // Returns when all ranks have entered.
  virtual void Barrier() = 0;
  // The ranks that give the same color form a group, ordered by their rank here. Collective.
  virtual std::unique_ptr<Communicator> Split(int color, const std::string& name) = 0;

 protected:
  Communicator() = default;
};

// CHECKs shared by the implementations: shapes and counts that fit together.
void CheckReduceScatter(const Communicator& comm, const Tensor& input, const Tensor& output);
void CheckAllGather(const Communicator& comm, const Tensor& input, const Tensor& output);
void CheckAllToAllV(const Communicator& comm, const Tensor& input,
                    absl::Span<const int64_t> send_rows, const Tensor& output,
                    absl::Span<const int64_t> recv_rows);
// Bytes of one row of `tensor`, also where it has no row.
int64_t RowBytes(const Tensor& tensor);

}  // namespace unipool
