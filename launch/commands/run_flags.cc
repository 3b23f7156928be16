#include "launch/commands/run_flags.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace unipool {

Flag DeviceFlag() {
  return {"device", "auto|cpu|cuda", "what ranks compute on (parallel.device; default auto)"};
}

absl::StatusOr<std::vector<std::string>> RunOverrides(const CommandLine& line) {
  std::vector<std::string> overrides = line.Values("set");
  if (line.Knows("threads") && line.Has("threads")) {
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
