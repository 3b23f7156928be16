#include "launch/train/load_trace.h"

#include <vector>

#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {

absl::Status WriteLoads(const std::string& folder, int64_t step, const LoadStatistics& statistics) {
  constexpr int kVersion = 1;
  if (!statistics.has_previous() || statistics.num_layers() == 0) return absl::OkStatus();
  Json layers = Json::Array();
  for (int layer = 0; layer < statistics.num_layers(); ++layer) {
    const absl::Span<const int64_t> counts = statistics.previous(layer);
    layers.Append({{"pool", statistics.pool_of_layer(layer)},
                   {"tokens", std::vector<int64_t>(counts.begin(), counts.end())}});
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
