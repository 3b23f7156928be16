// Text files to token ids on disk: streams documents out of JSON lines and plain files, packed or
// not, and tokenizes them on several threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace unipool {

enum class TextFormat {
  kAuto,       // by name (.gz, .zst aside): .jsonl and .json are JSON lines, all others plain text
  kPlain,      // a file is a document
  kJsonLines,  // a line is an object, its text field a document
};

struct PrepareOptions {
  std::vector<std::string> inputs;  // files, or folders: all below but hidden ones, by name
  std::string output;               // PREFIX of PREFIX.bin and PREFIX.idx; its folder is made
  TextFormat format = TextFormat::kAuto;
  std::string text_field = "text";
  std::string vocab_file;   // of a GPT-2 tokenizer; without the two files
  std::string merges_file;  // the vocabulary is that of bytes
  int workers = 1;          // threads that tokenize; any number writes the same bytes
  bool skip_bad = false;    // malformed lines and files are counted instead of ending the work
  bool overwrite = false;   // of an output that is there
};

struct PrepareReport {
  int64_t files = 0;
  int64_t input_bytes = 0;  // of text, unpacked
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t bad_lines = 0;
  std::string first_bad_line;  // what was wrong with it, with file and line
  double seconds = 0;
};

// An end of document comes after each text that is not empty. An error names the file, and the line
// of a malformed one or the byte where packed data is damaged or text is not UTF-8, and leaves no
// output; of several it is the first in the order of the input. A killed call leaves temporary
// files only, which the next one writes anew. Progress goes to standard error. `report` may be
// null.
absl::Status PrepareData(const PrepareOptions& options, PrepareReport* report = nullptr);

}  // namespace unipool
