#include "launch/commands/load_run.h"

#include <glog/logging.h>

#include "configs/run.pb.h"
#include "launch/config/run_config.h"
#include "launch/world/world.h"

namespace unipool {
namespace {

void LogOnFirstRank(const std::vector<std::string>& warnings) {
  if (LaunchRank() != 0) return;
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
}

}  // namespace

absl::StatusOr<config::Run> LoadRunAndWarn(const std::string& file,
                                           const std::vector<std::string>& overrides) {
  std::vector<std::string> warnings;
  absl::StatusOr<config::Run> run = LoadRunConfig(file, overrides, &warnings);
  LogOnFirstRank(warnings);
  return run;
}

absl::StatusOr<config::Run> OverrideRunAndWarn(const config::Run& run, const std::string& source,
                                               const std::vector<std::string>& overrides) {
  std::vector<std::string> warnings;
  absl::StatusOr<config::Run> changed = OverrideRunConfig(run, source, overrides, &warnings);
  LogOnFirstRank(warnings);
  return changed;
}

}  // namespace unipool
