// Attention as a graph of cuDNN's front-end, whose headers take long to compile and are included in
// one source. The front-end throws; here all of that becomes a Status.
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

// Loads the library at the first call, and returns its version, as "9.19.0". UNAVAILABLE, saying
// what was tried.
absl::StatusOr<std::string> OpenCudnn();

struct DeleteCudnnHandle {
  void operator()(cudnnContext* handle) const;
};
using CudnnHandle = std::unique_ptr<cudnnContext, DeleteCudnnHandle>;
// On the thread's device, for calls on `stream`, which outlives it.
absl::StatusOr<CudnnHandle> NewCudnnHandle(cudaStream_t stream);

// Makes the attention out of an empty graph.
void DescribeAttention(const CudnnAttentionShape& shape, cudnn_frontend::graph::Graph& graph);
// Whether cuDNN has an engine for the graph on the handle's GPU; without a handle, on the GPU whose
// properties the graph was given.
absl::Status FindEngine(cudnn_frontend::graph::Graph& graph, cudnnContext* handle);

struct DeleteCudnnGraph {
  void operator()(cudnn_frontend::graph::Graph* graph) const;
};
using CudnnGraph = std::unique_ptr<cudnn_frontend::graph::Graph, DeleteCudnnGraph>;

// A graph compiled for one GPU.
class CudnnAttentionPlan {
 public:
  static absl::StatusOr<CudnnAttentionPlan> Create(const CudnnAttentionShape& shape,
                                                   cudnnContext* handle);

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // Enqueues the plan's number of sequences of `attention`, from `first` on.
  absl::Status Run(const CudnnAttention& attention, int64_t first, void* workspace,
                   cudnnContext* handle);

 private:
  CudnnAttentionPlan(CudnnGraph graph, int64_t workspace_bytes);

  CudnnGraph graph_;
  int64_t workspace_bytes_;
  std::unordered_map<int64_t, void*> pointers_;  // by the tensors' ids; kept between calls
};

}  // namespace unipool
