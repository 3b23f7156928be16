#include "runtime/cudnn_graph_cuda.h"

#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <array>
#include <cmath>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/gpu.h"
#include "runtime/status.h"

namespace cudnn_frontend {
// The library handle that the front-end reads; OpenCudnn sets it once.
void* cudnn_dlhandle = nullptr;
}  // namespace cudnn_frontend

namespace unipool {
namespace {

namespace fe = cudnn_frontend;
using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

enum TensorId : int64_t { kQ = 1, kK, kV, kOut, kLse, kDout, kDq, kDk, kDv };

// Converts the result of `call` to a Status, including exceptions, which the front-end throws if a
// library lacks a function.
template <typename Call>
absl::Status Guarded(const Call& call) {
  try {
    fe::error_t error = call();
    if (error.is_good()) return absl::OkStatus();
    return absl::UnimplementedError(absl::StrReplaceAll(error.get_message(), {{"\n", " "}}));
  } catch (const std::exception& error) {
    return absl::UnavailableError(error.what());
  }
}

fe::error_t ErrorOf(cudnnStatus_t status) {
  if (status == CUDNN_STATUS_SUCCESS) return {};
  return {fe::error_code_t::CUDNN_BACKEND_API_FAILED, fe::detail::get_error_string(status)};
}

absl::StatusOr<void*> OpenLibrary(const std::string& name) {
  std::string first_error;
  for (const char* folder : {"", "/usr/local/cuda/lib64/"}) {
    void* const handle = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return handle;
    if (first_error.empty()) first_error = dlerror();
  }
  return absl::UnavailableError(absl::StrCat(name, " cannot be loaded (", first_error,
                                             "); install it or add its folder to LD_LIBRARY_PATH"));
}

absl::StatusOr<std::string> LoadCudnn() {
  // The front-end opens the CUDA runtime by name. Opening it here first makes it find this one.
  RETURN_IF_ERROR(OpenLibrary(absl::StrCat("libcudart.so.", CUDART_VERSION / 1000)).status());
  ASSIGN_OR_RETURN(fe::cudnn_dlhandle, OpenLibrary(absl::StrCat("libcudnn.so.", CUDNN_MAJOR)));
  size_t version = 0;
  RETURN_IF_ERROR(Guarded([&] {
    version = fe::detail::get_backend_version();
    return fe::error_t{};
  }));
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

// Sets dimensions and strides [sequences, heads, sequence, head_dim] with rows that are `row`
// elements apart.
void SetHeadLayout(const CudnnAttentionShape& shape, int64_t heads, int64_t row,
                   fe::graph::Tensor_attributes& tensor) {
  tensor.set_dim({shape.sequences, heads, shape.sequence, shape.head_dim})
      .set_stride({shape.sequence * row, shape.head_dim, row, 1});
}

void SetLseLayout(const CudnnAttentionShape& shape, fe::graph::Tensor_attributes& tensor) {
  tensor.set_dim({shape.sequences, shape.heads, shape.sequence, 1})
      .set_stride({shape.heads * shape.sequence, shape.sequence, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

TensorPointer Input(fe::graph::Graph& graph, const CudnnAttentionShape& shape, TensorId id,
                    int64_t heads, int64_t row) {
  fe::graph::Tensor_attributes tensor;
  SetHeadLayout(shape, heads, row, tensor);
  return graph.tensor(tensor.set_uid(id));
}

void Output(const CudnnAttentionShape& shape, TensorId id, int64_t heads, int64_t row,
            const TensorPointer& tensor) {
  SetHeadLayout(shape, heads, row, *tensor);
  tensor->set_output(true).set_uid(id);
}

// Attributes of both directions: a causal mask (query i sees keys 0..i) and the scale.
template <typename Attributes>
Attributes Causal(const CudnnAttentionShape& shape) {
  Attributes attributes;
  attributes.set_attn_scale(1.0f / std::sqrt(static_cast<float>(shape.head_dim)))
      .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
      .set_diagonal_band_right_bound(0);
  return attributes;
}

void AddForward(const CudnnAttentionShape& shape, const std::array<TensorPointer, 3>& qkv,
                fe::graph::Graph& graph) {
  auto attributes = Causal<fe::graph::SDPA_attributes>(shape);
  attributes.set_name("attention").set_generate_stats(true);
  const auto [out, lse] = graph.sdpa(qkv[0], qkv[1], qkv[2], attributes);
  Output(shape, kOut, shape.heads, shape.out_stride(), out);
  SetLseLayout(shape, *lse);
  lse->set_output(true).set_uid(kLse);
}

void AddBackward(const CudnnAttentionShape& shape, const std::array<TensorPointer, 3>& qkv,
                 fe::graph::Graph& graph) {
  auto attributes = Causal<fe::graph::SDPA_backward_attributes>(shape);
  attributes.set_name("attention_backward").set_deterministic_algorithm(true);
  const auto out = Input(graph, shape, kOut, shape.heads, shape.out_stride());
  const auto dout = Input(graph, shape, kDout, shape.heads, shape.out_stride());
  fe::graph::Tensor_attributes stats;
  SetLseLayout(shape, stats);
  const auto lse = graph.tensor(stats.set_uid(kLse));
  const auto [dq, dk, dv] = graph.sdpa_backward(qkv[0], qkv[1], qkv[2], out, dout, lse, attributes);
  Output(shape, kDq, shape.heads, shape.qkv_stride(), dq);
  Output(shape, kDk, shape.kv_heads, shape.qkv_stride(), dk);
  Output(shape, kDv, shape.kv_heads, shape.qkv_stride(), dv);
}

}  // namespace

absl::StatusOr<std::string> OpenCudnn() {
  static const absl::StatusOr<std::string> version = LoadCudnn();
  return version;
}

LibraryVersion CudnnVersion() {
  const absl::StatusOr<std::string> found = OpenCudnn();
  return {.built = absl::StrCat(CUDNN_MAJOR, ".", CUDNN_MINOR, ".", CUDNN_PATCHLEVEL),
          .found = found.ok() ? *found : std::string(found.status().message())};
}

void DeleteCudnnHandle::operator()(cudnnContext* handle) const {
  (void)fe::detail::destroy_handle(handle);
}

absl::StatusOr<CudnnHandle> NewCudnnHandle(cudaStream_t stream) {
  RETURN_IF_ERROR(OpenCudnn().status());
  cudnnHandle_t handle = nullptr;
  RETURN_IF_ERROR(Guarded([&] { return ErrorOf(fe::detail::create_handle(&handle)); }));
  CudnnHandle owned(handle);
  RETURN_IF_ERROR(Guarded([&] { return ErrorOf(fe::detail::set_stream(handle, stream)); }));
  return owned;
}

void DescribeAttention(const CudnnAttentionShape& shape, fe::graph::Graph& graph) {
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const int64_t row = shape.qkv_stride();
  const std::array<TensorPointer, 3> qkv = {Input(graph, shape, kQ, shape.heads, row),
                                            Input(graph, shape, kK, shape.kv_heads, row),
                                            Input(graph, shape, kV, shape.kv_heads, row)};
  if (shape.backward) {
    AddBackward(shape, qkv, graph);
  } else {
    AddForward(shape, qkv, graph);
  }
}

absl::Status FindEngine(fe::graph::Graph& graph, cudnnContext* handle) {
  return Guarded([&] {
    fe::error_t error = graph.validate();
    if (error.is_good()) error = graph.build_operation_graph(handle);
    if (error.is_good()) error = graph.create_execution_plans({fe::HeurMode_t::A});
    if (error.is_good()) error = graph.check_support();
    return error;
  });
}

void DeleteCudnnGraph::operator()(fe::graph::Graph* graph) const { delete graph; }

CudnnAttentionPlan::CudnnAttentionPlan(CudnnGraph graph, int64_t workspace_bytes)
    : graph_(std::move(graph)), workspace_bytes_(workspace_bytes) {}

absl::StatusOr<CudnnAttentionPlan> CudnnAttentionPlan::Create(const CudnnAttentionShape& shape,
                                                              cudnnContext* handle) {
  CudnnGraph graph(new fe::graph::Graph);
  DescribeAttention(shape, *graph);
  RETURN_IF_ERROR(FindEngine(*graph, handle));
  int64_t workspace_bytes = 0;
  RETURN_IF_ERROR(Guarded([&] {
    fe::error_t error = graph->build_plans();
    return error.is_good() ? graph->get_workspace_size(workspace_bytes) : error;
  }));
  return CudnnAttentionPlan(std::move(graph), workspace_bytes);
}

absl::Status CudnnAttentionPlan::Run(const CudnnAttention& attention, int64_t first,
                                     void* workspace, cudnnContext* handle) {
  const CudnnAttentionShape& shape = attention.shape;
  const int64_t token = first * shape.sequence;
  const auto at = [](void* data, int64_t elements) {
    return static_cast<void*>(static_cast<uint16_t*>(data) + elements);
  };
  const int64_t query = token * shape.qkv_stride(), key = query + shape.out_stride();
  const int64_t value = key + shape.kv_heads * shape.head_dim, out = token * shape.out_stride();
  pointers_[kQ] = at(attention.qkv, query);
  pointers_[kK] = at(attention.qkv, key);
  pointers_[kV] = at(attention.qkv, value);
  pointers_[kOut] = at(attention.out, out);
  pointers_[kLse] = attention.lse + token * shape.heads;
  if (shape.backward) {
    pointers_[kDout] = at(attention.dout, out);
    pointers_[kDq] = at(attention.dqkv, query);
    pointers_[kDk] = at(attention.dqkv, key);
    pointers_[kDv] = at(attention.dqkv, value);
  }
  return Guarded([&] { return graph_->execute(handle, pointers_, workspace); });
}

}  // namespace unipool
