// Fuzzes the extraction of text from a JSON line; an error must be one line.
#include "data/prepare/json_lines.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text;
  const absl::Status status = unipool::TextOfJson(
      absl::string_view(reinterpret_cast<const char*>(data), size), "text", &text);
  if (!status.ok()) unipool::testing::RequireOneLine(std::string(status.message()));
  return 0;
}
