// Converts text files (JSON lines or plain text, optionally compressed) to PREFIX.bin and
// PREFIX.idx. Documents are streamed and tokenized on several threads. Formats:
// data/README.md#index and data/prepare/README.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace unipool {

enum class TextFormat {
  kAuto,       // by name (file_kind.h); a plain text that begins like JSON is refused
  kPlain,      // each file is one document
  kJsonLines,  // each line is an object whose text field is one document
};

struct PrepareOptions {
  std::vector<std::string> inputs;  // files, pipes, or folders, whose files are sorted
  std::string output;               // PREFIX of PREFIX.bin and PREFIX.idx; its folder is created
  TextFormat format = TextFormat::kAuto;
  std::string text_field = "text";
  std::string vocab_file;   // vocab.json of a GPT-2 tokenizer; if both files are "",
  std::string merges_file;  // (merges.txt) the byte tokenizer is used
  int workers = 1;          // tokenizing threads; the output does not depend on their number
  bool skip_bad = false;    // count malformed lines and files instead of returning an error
  bool overwrite = false;   // replace an existing output
};

struct PrepareReport {
  int64_t files = 0;
  std::vector<std::string> skipped;  // files and folders below input folders, with the reason
  int64_t input_bytes = 0;           // text, after decompression
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t blank_lines = 0;  // of JSON lines; passed over
  int64_t special_lines =
      0;  // with NaN, Infinity or a number beyond 1.8e308 in a field not asked for
  int64_t bad_lines = 0;
  std::string first_bad_line;  // file, line and what is wrong with it
  double seconds = 0;
};

// Appends an end-of-document id to each text that is not empty. An error names the file, and the
// line that is malformed or the byte where compressed data are damaged or text is not UTF-8; of
// several errors it is the first in input order. On an error no output is written and an existing
// one is kept; a killed call leaves only temporary files, which the next call overwrites. Progress
// is printed to standard error. `report` may be null.
absl::Status PrepareData(const PrepareOptions& options, PrepareReport* report = nullptr);

}  // namespace unipool
