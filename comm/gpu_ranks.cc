#include "comm/gpu_ranks.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/gpu_identity.h"
#include "comm/mixed_device_communicator.h"
#include "comm/staged_communicator.h"
#include "runtime/build_config.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Returns the text of every rank, by rank. Collective.
using Gather = std::function<absl::StatusOr<std::vector<std::string>>(const std::string& mine)>;

std::string IdentityOf(Device gpu) {
  if constexpr (kWithCuda) return GpuIdentity(gpu);
  return ToString(gpu);
}

std::string HostOf(const std::string& identity) { return identity.substr(0, identity.find('/')); }

int CountIf(const std::vector<std::string>& texts,
            const std::function<bool(const std::string&)>& is_counted) {
  return static_cast<int>(std::count_if(texts.begin(), texts.end(), is_counted));
}

// Returns an error that names the first two ranks that share a GPU, or "" if no ranks do.
std::string SharedGpuError(const std::vector<std::string>& identities) {
  for (size_t r = 0; r < identities.size(); ++r) {
    const auto same = std::find(identities.begin(), identities.begin() + r, identities[r]);
    const auto first = same - identities.begin();
    if (first == static_cast<ptrdiff_t>(r)) continue;
    return absl::StrCat("ranks ", first, " and ", r, " share GPU ", identities[r],
                        "; start at most one rank per GPU");
  }
  return "";
}

// Returns the first error that is not empty, with its rank, or "".
std::string FirstError(const std::vector<std::string>& errors) {
  for (size_t r = 0; r < errors.size(); ++r) {
    if (!errors[r].empty()) return absl::StrCat("rank ", r, ": ", errors[r]);
  }
  return "";
}

// Connects the ranks over NCCL and stores the result in `made`. Returns "", or the reason why NCCL
// cannot be used, with the same text on all ranks. Collective.
absl::StatusOr<std::string> TryNccl(int rank, int size, const Gather& gather,
                                    const NcclSession::Options& options, GpuRanks* made) {
  ASSIGN_OR_RETURN(const std::vector<std::string> identities, gather(IdentityOf(options.gpu)));
  const std::string& mine = identities[rank];
  made->ranks_on_host =
      CountIf(identities, [&](const std::string& other) { return HostOf(other) == HostOf(mine); });
  made->ranks_on_gpu = CountIf(identities, [&](const std::string& other) { return other == mine; });
  if (std::string error = SharedGpuError(identities); !error.empty()) return error;
  absl::StatusOr<std::unique_ptr<NcclSession>> session = NcclSession::Create(options);
  ASSIGN_OR_RETURN(std::vector<std::string> texts, gather(std::string(session.status().message())));
  if (std::string error = FirstError(texts); !error.empty()) return error;
  absl::StatusOr<std::string> id = rank == 0 ? (*session)->NewId() : std::string();
  ASSIGN_OR_RETURN(texts, gather(std::string(id.status().message())));
  if (std::string error = FirstError(texts); !error.empty()) return error;
  ASSIGN_OR_RETURN(texts, gather(*id));
  absl::StatusOr<std::unique_ptr<Communicator>> ranks =
      (*session)->CreateWorld(texts[0], rank, size);
  ASSIGN_OR_RETURN(texts, gather(std::string(ranks.status().message())));
  if (std::string error = FirstError(texts); !error.empty()) {
    return absl::InternalError(error);
  }
  made->session = std::move(*session);
  made->ranks = std::move(*ranks);
  return std::string();
}

}  // namespace

absl::StatusOr<GpuRanks> MakeGpuRanks(std::unique_ptr<Communicator> host,
                                      const NcclSession::Options& options) {
  GpuRanks made;
  if (host->size() == 1) {
    ASSIGN_OR_RETURN(made.ranks, CreateStagedCommunicator(std::move(host), options.gpu));
    return made;
  }
  const Gather gather = [&](const std::string& mine) { return GatherTexts(*host, mine); };
  ASSIGN_OR_RETURN(const std::string why_not,
                   TryNccl(host->rank(), host->size(), gather, options, &made));
  if (why_not.empty()) {
    made.ranks = CreateMixedDeviceCommunicator(std::move(made.ranks), std::move(host), options.gpu);
    return made;
  }
  LOG_IF(WARNING, host->rank() == 0)
      << "NCCL is not used, so exchanges go through host memory and are slower: " << why_not;
  ASSIGN_OR_RETURN(made.ranks, CreateStagedCommunicator(std::move(host), options.gpu));
  return made;
}

absl::StatusOr<GpuRanks> MakeGpuRanks(Rendezvous& rendezvous, const NcclSession::Options& options) {
  GpuRanks made;
  const Gather gather = [&](const std::string& mine) { return rendezvous.Gather(mine); };
  ASSIGN_OR_RETURN(const std::string why_not,
                   TryNccl(rendezvous.rank(), rendezvous.size(), gather, options, &made));
  if (!why_not.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("ranks started without MPI need NCCL: ", why_not));
  }
  made.ranks = CreateMixedDeviceCommunicator(std::move(made.ranks), nullptr, options.gpu);
  return made;
}

std::vector<std::string> GatherTexts(Communicator& ranks, const std::string& mine) {
  const std::unique_ptr<Stream> stream = Stream::Create(Device{});
  const int size = ranks.size();
  std::vector<int64_t> sizes(size);
  int64_t my_size = static_cast<int64_t>(mine.size());
  ranks.AllGather(Tensor::Of(&my_size, {1}), Tensor::Of(sizes.data(), {size}), *stream);
  // AllGather needs equal sizes, so every text is padded to the longest one, in units of int64.
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  const int64_t words = longest / int64_t{sizeof(int64_t)} + 1;
  std::vector<int64_t> text(words), texts(words * size);
  std::memcpy(text.data(), mine.data(), mine.size());
  ranks.AllGather(Tensor::Of(text.data(), {words}), Tensor::Of(texts.data(), {words * size}),
                  *stream);
  std::vector<std::string> all;
  for (int r = 0; r < size; ++r) {
    all.emplace_back(reinterpret_cast<const char*>(texts.data() + words * r), sizes[r]);
  }
  return all;
}

}  // namespace unipool
