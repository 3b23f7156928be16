#include "launch/train/load_trace.h"

#include <numeric>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {

absl::Status WriteLoads(const std::string& folder, int64_t step, const LoadStatistics& statistics) {
  constexpr int kVersion = 2;  // version 1 counted unrouted choices among `tokens`
  if (!statistics.has_previous() || statistics.num_layers() == 0) return absl::OkStatus();
  Json layers = Json::Array();
  for (int layer = 0; layer < statistics.num_layers(); ++layer) {
    const absl::Span<const int64_t> unrouted = statistics.previous_unrouted_choices(layer);
    std::vector<int64_t> loads;
    for (int e = 0; e < statistics.experts(layer); ++e) {
      loads.push_back(statistics.previous_load(layer, e));
    }
    layers.Append(
        {{"pool", statistics.pool_of_layer(layer)},
         {"tokens", loads},
         {"unrouted_choices", std::accumulate(unrouted.begin(), unrouted.end(), int64_t{0})}});
  }
  const Json json = {{"version", kVersion},
                     {"step", step},
                     {"unrouted", statistics.previous_unrouted()},
                     {"layers", layers}};
  RETURN_IF_ERROR(MakeFolders(folder));
  return WriteFileAtomically(absl::StrFormat("%s/step_%08d.json", folder, step),
                             json.Dump() + "\n");
}

}  // namespace unipool
