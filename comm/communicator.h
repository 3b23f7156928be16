// A group of ranks and its collective operations. Every method but rank(), size() and device_type()
// is collective: all ranks of the group call the same methods in the same order. A communicator
// starts no thread and picks no stream: a call enqueues work on the stream given, and its tensors
// and counts must stay alive and unchanged until the stream has completed it. Tensors are dense. A
// failed transport call, or a wait beyond the deadline, ends all ranks with one line that names the
// operation, its number and the rank that waited; wrong shapes and counts are CHECKs.
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

  // Rank of the caller in this group, from 0 to size() - 1.
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual DeviceType device_type() const = 0;

  // Reduces x in place; every rank gets the same bits. float32, float64, int32 or int64.
  virtual void AllReduce(Tensor x, ReduceOp op, Stream& stream) = 0;
  // Splits `input` into size() equal parts and writes the sum over ranks of part r to rank r's
  // `output`: output.numel() * size() == input.numel(). `output` may be that part of `input`.
  // Types as for AllReduce.
  virtual void ReduceScatter(Tensor input, Tensor output, Stream& stream) = 0;
  // Writes rank r's `input` to part r of every rank's `output`, which has size() equal parts:
  // input.numel() * size() == output.numel(). `input` may be that part of `output`.
  virtual void AllGather(Tensor input, Tensor output, Stream& stream) = 0;
  // Sends send_rows[r] rows of `input` to each rank r, in rank order, and receives recv_rows[r]
  // rows from each into `output`, in rank order. A row is one index of the first dimension; rows
  // have the same size in bytes on all ranks. Counts are in host memory, one per rank, and may be
  // zero. Rows of `output` after the last one received are unchanged.
  virtual void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                         absl::Span<const int64_t> recv_rows, Stream& stream) = 0;
  // Copies x of rank `root` to x of every other rank.
  virtual void Broadcast(Tensor x, int root, Stream& stream) = 0;
  // Blocks the caller until all ranks have called it.
  virtual void Barrier() = 0;
  // Returns the group of the ranks that pass the same color, ordered by their rank in this group.
  // `name` appears in logs and errors. This group must outlive the call only.
  virtual std::unique_ptr<Communicator> Split(int color, const std::string& name) = 0;

 protected:
  Communicator() = default;
};

// CHECKs shared by the implementations: shapes, types and counts match.
void CheckReduceScatter(const Communicator& comm, const Tensor& input, const Tensor& output);
void CheckAllGather(const Communicator& comm, const Tensor& input, const Tensor& output);
void CheckAllToAllV(const Communicator& comm, const Tensor& input,
                    absl::Span<const int64_t> send_rows, const Tensor& output,
                    absl::Span<const int64_t> recv_rows);
// Bytes of one row (index of the first dimension) of `tensor`, which may have no rows.
int64_t RowBytes(const Tensor& tensor);

}  // namespace unipool
