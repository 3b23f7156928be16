// Fuzzes the extraction of text from a JSON line; an error must be one short line, and a document
// that is read must agree.
#include "data/prepare/json_lines.h"

#include "runtime/json.h"
#include "tests/fuzz/fuzz_target.h"

using unipool::Json;
using unipool::testing::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view line(reinterpret_cast<const char*>(data), size);
  unipool::JsonText found;
  const absl::Status status = unipool::TextOfJson(line, "text", &found);
  const auto document = Json::Parse(line);
  if (!document.ok()) {
    unipool::testing::RequireShortLine(std::string(document.status().message()));
  }
  if (!status.ok()) {
    unipool::testing::RequireShortLine(std::string(status.message()));
    return 0;
  }
  if (!document.ok()) return 0;  // nested too deep for a document in memory
  const Json* const text = document->Find("text");
  Require(text != nullptr && text->is_string() && text->string() == found.text,
          "the text of a line is that of its document");
  return 0;
}
