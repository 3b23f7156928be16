// Fuzzes the text of a config: it is parsed, checked, resolved and printed. An error must be one
// line; the printed config must parse to the same config.
#include "configs/run.pb.h"
#include "launch/config/config_text.h"
#include "launch/config/renamed_fields.h"
#include "launch/config/run_config.h"
#include "tests/fuzz/fuzz_target.h"

using unipool::testing::Require;
using unipool::testing::RequireOneLine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  unipool::config::Run run;
  unipool::FieldOrigins origins;
  absl::Status status = unipool::ParseConfigText(text, "fuzz.textproto", &run, &origins);
  if (status.ok()) status = unipool::MoveRenamedFields(&run, &origins, nullptr);
  if (status.ok()) status = unipool::CheckRunConfig(run, "fuzz.textproto");
  if (!status.ok()) {
    RequireOneLine(std::string(status.message()));
    return 0;
  }
  unipool::ResolveDefaults(&run);
  unipool::config::Run again;
  const std::string resolved = unipool::ToText(run);
  status = unipool::ParseConfigText(resolved, "resolved.textproto", &again, &origins);
  Require(status.ok(), "a resolved config parses");
  Require(unipool::ToText(again) == resolved, "a resolved config parses to the same config");
  return 0;
}
