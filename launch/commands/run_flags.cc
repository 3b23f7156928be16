#include "launch/commands/run_flags.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace unipool {

Flag ConfigFlag() {
  return {"config", "FILE", "config of the run, a textproto of configs/run.proto"};
}

Flag SetFlag() {
  return {.name = "set",
          .value = "FIELD=VALUE",
          .help = "overrides a field of the config, as in --set model.layers=4",
          .is_repeated = true};
}

Flag DeviceFlag() {
  return {"device", "auto|cpu|cuda",
          "device of each rank (parallel.device); auto takes a GPU if there is one (default auto)"};
}

Flag ThreadsFlag() {
  return {"threads", "N",
          "CPU threads of each rank (parallel.threads; default OMP_NUM_THREADS, else the rank's "
          "share of the host's cores)"};
}

Flag HelpFlag() { return {"help", "", "prints this help"}; }

absl::StatusOr<std::vector<std::string>> RunOverrides(const CommandLine& line) {
  std::vector<std::string> overrides = line.Values("set");
  if (line.Accepts("threads") && line.Has("threads")) {
    overrides.push_back(absl::StrCat("parallel.threads=", line.Value("threads", "")));
  }
  if (line.Has("device")) {
    const std::string name = line.Value("device", "");
    if (name != "auto" && name != "cpu" && name != "cuda") {
      return absl::InvalidArgumentError(
          absl::StrCat("--device=", name, ": expected auto, cpu or cuda"));
    }
    overrides.push_back(absl::StrCat("parallel.device=", absl::AsciiStrToUpper(name)));
  }
  return overrides;
}

}  // namespace unipool
