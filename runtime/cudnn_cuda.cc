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

// A deterministic backward may want sequence^2 / 128 * width floats a sequence. Chunks are taken as
// large as this holds, so that each fills the GPU; a sequence that wants more than the most is not
// computed here.
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;
constexpr int64_t kMaxWorkspaceBytes = int64_t{512} << 20;
// Training meets a few shapes; where every batch is another one, plans would be all the time.
constexpr size_t kMaxShapes = 32;

std::string Words(const CudnnAttentionShape& shape) {
  return absl::StrCat(shape.backward ? "backward of " : "", shape.sequences, " sequences of ",
                      shape.sequence, ", ", shape.heads, " heads for ", shape.kv_heads, " of ",
                      shape.head_dim);
}

bool IsWanted() {
  const char* const wish = std::getenv("UNIPOOL_CUDNN");
  return wish == nullptr || std::strcmp(wish, "0") != 0;
}

// The library reads 16 bytes at a time; lse counts for the chunks after the first.
bool IsAligned(const CudnnAttention& attention) {
  const CudnnAttentionShape& shape = attention.shape;
  if (shape.head_dim % 8 != 0 || shape.heads * shape.sequence % 4 != 0) return false;
  for (const void* data : {attention.qkv, attention.out, static_cast<void*>(attention.lse),
                           attention.dout, attention.dqkv}) {
    if (reinterpret_cast<uintptr_t>(data) % 16 != 0) return false;
  }
  return true;
}

// Once in a process.
void TellWhoComputes(const absl::Status& status) {
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
    TellWhoComputes(handle.status());
    if (handle.ok()) handle_ = *std::move(handle);
  }

  bool Run(const CudnnAttention& attention, Stream& stream) {
    const int64_t at_once = handle_ == nullptr ? 0 : AtOnce(attention.shape);
    if (at_once == 0) return false;
    ForEachChunk(attention.shape.sequences, at_once, [&](int64_t first, int64_t count) {
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

  // Sequences of a chunk, each of which has its plan; 0 where own kernels compute the shape.
  int64_t AtOnce(const CudnnAttentionShape& shape) {
    const auto found = at_once_.find(shape);
    if (found != at_once_.end()) return found->second;
    if (at_once_.size() == kMaxShapes) return 0;
    const absl::StatusOr<int64_t> at_once = Prepare(shape);
    if (at_once.ok()) {
      VLOG(1) << "attention by cuDNN: " << Words(shape) << ", " << *at_once << " at once";
    } else {
      LOG(WARNING) << "attention by own kernels: " << Words(shape) << ": "
                   << at_once.status().message();
    }
    return at_once_.emplace(shape, at_once.value_or(0)).first->second;
  }

  absl::StatusOr<int64_t> Prepare(const CudnnAttentionShape& shape) {
    const auto bytes_of = [&](int64_t sequences) -> absl::StatusOr<int64_t> {
      ASSIGN_OR_RETURN(const CudnnAttentionPlan plan,
                       CudnnAttentionPlan::Create(WithSequences(shape, sequences), handle_.get()));
      return plan.workspace_bytes();
    };
    ASSIGN_OR_RETURN(const int64_t at_once,
                     SequencesAtOnce(shape.sequences, kWorkspaceBytes, bytes_of));
    RETURN_IF_ERROR(Keep(WithSequences(shape, at_once)));
    const int64_t rest = shape.sequences % at_once;
    if (rest != 0) RETURN_IF_ERROR(Keep(WithSequences(shape, rest)));
    return at_once;
  }

  absl::Status Keep(const CudnnAttentionShape& shape) {
    if (plans_.count(shape) != 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(CudnnAttentionPlan plan, CudnnAttentionPlan::Create(shape, handle_.get()));
    const int64_t bytes = plan.workspace_bytes();
    if (bytes > kMaxWorkspaceBytes) {
      return absl::ResourceExhaustedError(absl::StrCat("cuDNN wants ", bytes >> 20, " MiB"));
    }
    if (bytes > std::max(int64_t{kScratchBytes}, workspace_.bytes())) {
      ASSIGN_OR_RETURN(workspace_, Buffer::Allocate(device_, bytes));
    }
    plans_.emplace(shape, std::move(plan));
    return absl::OkStatus();
  }

  Device device_;
  CudnnHandle handle_;
  std::map<CudnnAttentionShape, int64_t> at_once_;
  std::map<CudnnAttentionShape, CudnnAttentionPlan> plans_;
  Buffer workspace_;  // of the plans that the stream's scratch is too small for
};

void DeleteCudnnPlans::operator()(CudnnPlans* plans) const { delete plans; }

CudnnPlansPointer NewCudnnPlans(Stream& stream) {
  return CudnnPlansPointer(new CudnnPlans(stream));
}

bool RunCudnnAttention(const CudnnAttention& attention, Stream& stream) {
  if (attention.shape.sequences == 0 || !IsAligned(attention)) return false;
  if (!IsWanted()) {
    LOG_FIRST_N(INFO, 1) << "attention by own kernels: UNIPOOL_CUDNN=0";
    return false;
  }
  return CudnnPlansOf(stream).Run(attention, stream);
}

}  // namespace unipool
