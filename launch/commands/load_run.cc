#include "launch/commands/load_run.h"

#include <glog/logging.h>

#include <filesystem>
#include <system_error>

#include "configs/run.pb.h"
#include "launch/config/run_config.h"
#include "launch/world/world.h"

namespace unipool {
namespace {

void LogOnFirstRank(const std::vector<std::string>& warnings) {
  if (LaunchRank() != 0) return;
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
}

// True for the config that a run wrote to its folder. Former names of fields need no warning there,
// because no person wrote them.
bool IsOfRunFolder(const std::string& file) {
  const std::filesystem::path path = file;
  std::error_code error;
  return path.filename() == "config.textproto" &&
         std::filesystem::is_directory(path.parent_path() / "checkpoints", error);
}

}  // namespace

absl::StatusOr<config::Run> LoadRunAndWarn(const std::string& file,
                                           const std::vector<std::string>& overrides) {
  std::vector<std::string> warnings;
  absl::StatusOr<config::Run> run = LoadRunConfig(file, overrides, &warnings);
  if (!IsOfRunFolder(file)) LogOnFirstRank(warnings);
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
