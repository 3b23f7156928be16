#include "runtime/cudnn_cuda.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/buffer.h"
#include "runtime/check_cuda.h"
#include "runtime/cudnn_graph_cuda.h"
#include "runtime/sequence_chunks.h"
#include "runtime/status.h"
#include "runtime/stream_cuda.h"

namespace unipool {
namespace {

// A deterministic backward can need sequence^2 / 128 * width floats per sequence. Chunks are as
// large as kWorkspaceBytes allows, so that each fills the GPU. A shape whose single sequence needs
// more than kMaxWorkspaceBytes is not computed by cuDNN.
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;
constexpr int64_t kMaxWorkspaceBytes = int64_t{512} << 20;
// Limit for the number of shapes with plans. Training uses only a few; if every batch has a new
// shape, creating plans would take most of the time.
constexpr size_t kMaxShapes = 32;

std::string ToString(const CudnnAttentionShape& shape) {
  return absl::StrCat(shape.backward ? "backward of " : "", shape.sequences, " sequences of ",
                      shape.sequence, ", ", shape.heads, " heads for ", shape.kv_heads, " of ",
                      shape.head_dim);
}

bool IsEnabled() {
  const char* const setting = std::getenv("UNIPOOL_CUDNN");
  return setting == nullptr || std::strcmp(setting, "0") != 0;
}

// The library reads 16 bytes at a time. lse must stay aligned for the chunks after the first.
bool IsAligned(const CudnnAttention& attention) {
  const CudnnAttentionShape& shape = attention.shape;
  if (shape.head_dim % 8 != 0 || shape.heads * shape.sequence % 4 != 0) return false;
  for (const void* data : {attention.qkv, attention.out, static_cast<void*>(attention.lse),
                           attention.dout, attention.dqkv}) {
    if (reinterpret_cast<uintptr_t>(data) % 16 != 0) return false;
  }
  return true;
}

// Logs once per process whether cuDNN computes attention, and if not, why.
void LogImplementation(const absl::Status& status) {
  if (status.ok()) {
    LOG_FIRST_N(INFO, 1) << "attention by cuDNN " << OpenCudnn().value_or("");
  } else {
    LOG_FIRST_N(INFO, 1) << "attention by own kernels: " << status.message();
  }
}

}  // namespace

class CudnnPlans {
 public:
  explicit CudnnPlans(Stream& stream) : device_(stream.device()) {
    absl::StatusOr<CudnnHandle> handle = NewCudnnHandle(CudaStream(stream));
    LogImplementation(handle.status());
    if (handle.ok()) handle_ = *std::move(handle);
  }

  bool Run(const CudnnAttention& attention, Stream& stream) {
    const int64_t per_chunk = handle_ == nullptr ? 0 : ChunkFor(attention.shape);
    if (per_chunk == 0) return false;
    ForEachChunk(attention.shape.sequences, per_chunk, [&](int64_t first, int64_t count) {
      CudnnAttentionPlan& plan = plans_.at(WithSequences(attention.shape, count));
      void* const workspace = plan.workspace_bytes() > int64_t{kScratchBytes}
                                  ? workspace_.data()
                                  : ScratchOf(stream).data;
      const absl::Status status = plan.Run(attention, first, workspace, handle_.get());
      if (!status.ok()) {
        GpuFail("attention by cuDNN", __FILE__, __LINE__, std::string(status.message()).c_str());
      }
    });
    return true;
  }

 private:
  static CudnnAttentionShape WithSequences(CudnnAttentionShape shape, int64_t sequences) {
    shape.sequences = sequences;
    return shape;
  }

  // Number of sequences per chunk of a shape, for which a plan exists; 0 if UniPool's own kernels
  // compute the shape.
  int64_t ChunkFor(const CudnnAttentionShape& shape) {
    const auto found = per_chunk_.find(shape);
    if (found != per_chunk_.end()) return found->second;
    if (per_chunk_.size() == kMaxShapes) return 0;
    const absl::StatusOr<int64_t> per_chunk = Prepare(shape);
    if (per_chunk.ok()) {
      VLOG(1) << "attention by cuDNN: " << ToString(shape) << ", " << *per_chunk << " per chunk";
    } else {
      LOG(WARNING) << "attention by own kernels: " << ToString(shape) << ": "
                   << per_chunk.status().message();
    }
    return per_chunk_.emplace(shape, per_chunk.value_or(0)).first->second;
  }

  absl::StatusOr<int64_t> Prepare(const CudnnAttentionShape& shape) {
    const auto bytes_of = [&](int64_t sequences) -> absl::StatusOr<int64_t> {
      ASSIGN_OR_RETURN(const CudnnAttentionPlan plan,
                       CudnnAttentionPlan::Create(WithSequences(shape, sequences), handle_.get()));
      return plan.workspace_bytes();
    };
    ASSIGN_OR_RETURN(const int64_t per_chunk,
                     SequencesPerChunk(shape.sequences, kWorkspaceBytes, bytes_of));
    RETURN_IF_ERROR(Keep(WithSequences(shape, per_chunk)));
    const int64_t rest = shape.sequences % per_chunk;
    if (rest != 0) RETURN_IF_ERROR(Keep(WithSequences(shape, rest)));
    return per_chunk;
  }

  absl::Status Keep(const CudnnAttentionShape& shape) {
    if (plans_.count(shape) != 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(CudnnAttentionPlan plan, CudnnAttentionPlan::Create(shape, handle_.get()));
    const int64_t bytes = plan.workspace_bytes();
    if (bytes > kMaxWorkspaceBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cuDNN needs ", bytes >> 20, " MiB of workspace"));
    }
    if (bytes > std::max(int64_t{kScratchBytes}, workspace_.bytes())) {
      ASSIGN_OR_RETURN(workspace_, Buffer::Allocate(device_, bytes));
    }
    plans_.emplace(shape, std::move(plan));
    return absl::OkStatus();
  }

  Device device_;
  CudnnHandle handle_;
  std::map<CudnnAttentionShape, int64_t> per_chunk_;
  std::map<CudnnAttentionShape, CudnnAttentionPlan> plans_;
  Buffer workspace_;  // workspace of plans for which the stream's scratch is too small
};

void DeleteCudnnPlans::operator()(CudnnPlans* plans) const { delete plans; }

CudnnPlansPointer NewCudnnPlans(Stream& stream) {
  return CudnnPlansPointer(new CudnnPlans(stream));
}

bool RunCudnnAttention(const CudnnAttention& attention, Stream& stream) {
  if (attention.shape.sequences == 0 || !IsAligned(attention)) return false;
  if (!IsEnabled()) {
    LOG_FIRST_N(INFO, 1) << "attention by own kernels: UNIPOOL_CUDNN=0";
    return false;
  }
  return CudnnPlansOf(stream).Run(attention, stream);
}

}  // namespace unipool
