// Attention as a graph of cuDNN's front-end. The front-end's headers compile slowly, so only one
// source file includes them. The front-end throws exceptions; these functions convert them to
// absl::Status.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/cudnn_cuda.h"

struct cudnnContext;
namespace cudnn_frontend::graph {
class Graph;
}  // namespace cudnn_frontend::graph

namespace unipool {

// Loads the library at the first call and returns its version, e.g. "9.19.0". Returns UNAVAILABLE
// with the names that were tried if it cannot be loaded.
absl::StatusOr<std::string> OpenCudnn();

struct DeleteCudnnHandle {
  void operator()(cudnnContext* handle) const;
};
using CudnnHandle = std::unique_ptr<cudnnContext, DeleteCudnnHandle>;
// Creates a handle on the thread's current device for calls on `stream`, which must outlive the
// handle.
absl::StatusOr<CudnnHandle> NewCudnnHandle(cudaStream_t stream);

// Adds the operations of the attention to an empty graph.
void DescribeAttention(const CudnnAttentionShape& shape, cudnn_frontend::graph::Graph& graph);
// Returns OK if cuDNN has an engine for the graph on the handle's GPU; if `handle` is null, on the
// GPU whose properties are set in the graph.
absl::Status FindEngine(cudnn_frontend::graph::Graph& graph, cudnnContext* handle);

struct DeleteCudnnGraph {
  void operator()(cudnn_frontend::graph::Graph* graph) const;
};
using CudnnGraph = std::unique_ptr<cudnn_frontend::graph::Graph, DeleteCudnnGraph>;

// A graph compiled for one shape on one GPU.
class CudnnAttentionPlan {
 public:
  static absl::StatusOr<CudnnAttentionPlan> Create(const CudnnAttentionShape& shape,
                                                   cudnnContext* handle);

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // Enqueues the attention of the plan's number of sequences, starting at sequence `first` of
  // `attention`.
  absl::Status Run(const CudnnAttention& attention, int64_t first, void* workspace,
                   cudnnContext* handle);

 private:
  CudnnAttentionPlan(CudnnGraph graph, int64_t workspace_bytes);

  CudnnGraph graph_;
  int64_t workspace_bytes_;
  // tensor id -> device address; kept between calls to avoid allocation
  std::unordered_map<int64_t, void*> pointers_;
};

}  // namespace unipool
