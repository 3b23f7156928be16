// The files that `unipool data prepare` reads: those that are named, and those below folders that
// are named.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/prepare/data_prepare.h"
#include "data/prepare/json_lines.h"

namespace unipool {

struct InputFile {
  std::string path;
  bool is_json_lines = false;
  int64_t bytes = 0;     // 0 for a pipe
  bool is_pipe = false;  // CheckStart must be called when it is opened
  std::string problem;   // why it is not text, if options.skip_bad; the file is to be skipped
};

struct InputList {
  std::vector<InputFile> files;      // in the order of reading
  std::vector<std::string> skipped;  // files and folders of input folders, each with the reason
};

// Files in the order of options.inputs; those below a folder in lexical order. Links are followed,
// and a file that a link reaches again is skipped. INVALID_ARGUMENT or the error of the system
// names the first input that cannot be read, is no text, or is token files or the output.
absl::StatusOr<InputList> ListInputs(const PrepareOptions& options);

// Sets `file->is_json_lines` and `file->problem` by the beginning of the text. INVALID_ARGUMENT if
// it is no text and options.skip_bad is not set, or if a plain text begins like JSON.
absl::Status CheckStart(const PrepareOptions& options, LineReader& reader, InputFile* file);

}  // namespace unipool
