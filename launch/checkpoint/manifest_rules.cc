#include "launch/checkpoint/manifest_rules.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/process_groups.h"
#include "configs/checkpoint.pb.h"
#include "launch/config/run_config.h"
#include "model/footprint.h"
#include "model/saturating.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using config::Manifest;

class Values {
 public:
  Values(const std::string& path, const Manifest& manifest)
      : path_(path), manifest_(manifest), run_(manifest.run()) {}

  absl::Status Check() const {
    RETURN_IF_ERROR(CheckRun());
    RETURN_IF_ERROR(CheckRanks());
    RETURN_IF_ERROR(CheckNumbers());
    RETURN_IF_ERROR(CheckCounts());
    RETURN_IF_ERROR(CheckOwners());
    return CheckSizes();
  }

 private:
  template <typename... Words>
  absl::Status Bad(const Words&... words) const {
    return absl::DataLossError(absl::StrCat(path_, ": ", words..., "; use another checkpoint"));
  }

  bool is_moe() const { return run_.model().ffn_kind() == config::Model::MOE; }
  int64_t pools() const { return run_.model().layers() / run_.pool().layers_per_pool(); }

  absl::Status CheckRun() const {
    const absl::Status status = CheckRunConfig(run_, "run");
    if (!status.ok()) return Bad("its config cannot be trained: ", status.message());
    const std::pair<const char*, int64_t> resolved[] = {
        {"model.kv_heads", run_.model().kv_heads()},
        {"model.head_dim", run_.model().head_dim()},
        {"model.ffn", run_.model().ffn()},
        {"pool.layers_per_pool", run_.pool().layers_per_pool()},
        {"schedule.decay_steps", run_.schedule().decay_steps()}};
    for (const auto& [field, value] : resolved) {
      if (value <= 0) return Bad("run.", field, " is ", value, ", expected 1 or more");
    }
    if (run_.schedule().warmup_steps() >= 0) return absl::OkStatus();
    return Bad("run.schedule.warmup_steps is ", run_.schedule().warmup_steps(),
               ", expected 0 or more");
  }

  absl::Status CheckRanks() const {
    const int ranks = manifest_.ranks(), expert_ranks = manifest_.expert_ranks();
    if (ranks < 1 || ranks > kMaxRanks) {
      return Bad("ranks is ", ranks, ", expected 1 to ", kMaxRanks);
    }
    if (expert_ranks >= 1 && ranks % expert_ranks == 0) return absl::OkStatus();
    return Bad("expert_ranks is ", expert_ranks, ", expected a divisor of ranks = ", ranks);
  }

  absl::Status CheckNumbers() const {
    if (manifest_.step() < 0) return Bad("step is ", manifest_.step(), ", expected 0 or more");
    if (manifest_.data().next_step() < 0) {
      return Bad("data.next_step is ", manifest_.data().next_step(), ", expected 0 or more");
    }
    if (!std::isfinite(manifest_.router_c()) || manifest_.router_c() < 0) {
      return Bad("router_c is ", manifest_.router_c(), ", expected a number of at least 0");
    }
    const Manifest::Divergence& judged = manifest_.divergence();
    if (judged.skipped() < 0 || judged.skipped_in_a_row() < 0 || judged.rewinds() < 0) {
      return Bad("divergence: a count is negative");
    }
    return absl::OkStatus();
  }

  // Dense models count nothing.
  absl::Status CheckCounts() const {
    const auto check = [&](const char* field, const auto& counts) -> absl::Status {
      const Saturating expected =
          is_moe() ? Saturating(run_.model().layers()) * run_.pool().experts() + 1 : 0;
      if (is_moe() && !counts.empty() && counts.size() != expected.value()) {
        return Bad(field, " has ", counts.size(), " counts, expected ", expected.value());
      }
      const bool is_negative =
          std::any_of(counts.begin(), counts.end(), [](int64_t count) { return count < 0; });
      return is_negative ? Bad(field, " has a negative count") : absl::OkStatus();
    };
    RETURN_IF_ERROR(check("statistics", manifest_.statistics().counts()));
    RETURN_IF_ERROR(CheckUnroutedChoices());
    for (const Manifest::Statistics& local : manifest_.local_statistics()) {
      RETURN_IF_ERROR(check("local_statistics", local.counts()));
    }
    const int locals = manifest_.local_statistics_size();
    if (locals == 0 || locals == manifest_.ranks()) return absl::OkStatus();
    return Bad("local_statistics has ", locals, " entries, expected ", manifest_.ranks());
  }

  // They are a part of the counts of each layer and expert.
  absl::Status CheckUnroutedChoices() const {
    const auto& counts = manifest_.statistics().counts();
    const auto& unrouted = manifest_.statistics().unrouted_choices();
    if (unrouted.empty()) return absl::OkStatus();
    if (unrouted.size() != counts.size() - 1) {
      return Bad("statistics has ", unrouted.size(), " unrouted_choices, expected ",
                 std::max(0, counts.size() - 1));
    }
    for (int i = 0; i < unrouted.size(); ++i) {
      if (unrouted[i] >= 0 && unrouted[i] <= counts[i]) continue;
      return Bad("statistics has ", unrouted[i], " unrouted_choices of ", counts[i]);
    }
    return absl::OkStatus();
  }

  absl::Status CheckOwners() const {
    if (!is_moe() || manifest_.expert_map().empty()) return absl::OkStatus();
    if (manifest_.expert_map_size() != pools()) {
      return Bad("expert_map has ", manifest_.expert_map_size(), " pools, expected ", pools());
    }
    for (const Manifest::PoolMap& pool : manifest_.expert_map()) {
      if (pool.owners_size() != run_.pool().experts()) {
        return Bad("expert_map has ", pool.owners_size(), " owners of a pool, expected ",
                   run_.pool().experts());
      }
      for (const int owner : pool.owners()) {
        if (owner >= 0 && owner < manifest_.expert_ranks()) continue;
        return Bad("expert_map has owner ", owner, ", expected 0 to ",
                   manifest_.expert_ranks() - 1);
      }
    }
    return absl::OkStatus();
  }

  // The files hold as many elements as the config has parameters.
  absl::Status CheckSizes() const {
    Saturating elements = 0;
    std::map<std::string, Saturating> used;
    for (const Manifest::StoredTensor& tensor : manifest_.tensors()) {
      const Saturating size = tensor.end() - tensor.begin();
      if (tensor.part() == Manifest::WEIGHT) elements += size;
      used.try_emplace(tensor.file(), 0).first->second += size * int64_t{sizeof(float)};
    }
    for (const Manifest::File& file : manifest_.files()) {
      const auto found = used.find(file.name());
      const int64_t needed = found == used.end() ? 0 : found->second.value();
      if (file.bytes() >= needed) continue;
      return Bad("a file has ", file.bytes(), " bytes, but its tensors have ", needed);
    }
    const bool has_biases = is_moe() && run_.pool().router() == config::Pool::SIGMOID_BIAS;
    const Saturating biases =
        has_biases ? Saturating(run_.model().layers()) * run_.pool().experts() : 0;
    const Saturating expected = CountParameters(run_).total() + biases;
    if (elements.value() == expected.value()) return absl::OkStatus();
    return Bad("the tensors have ", elements.value(), " weights, but the config has ",
               expected.value());
  }

  const std::string& path_;
  const Manifest& manifest_;
  const config::Run& run_;
};

}  // namespace

absl::Status CheckManifestValues(const std::string& path, const Manifest& manifest) {
  return Values(path, manifest).Check();
}

}  // namespace unipool
