// The paths of the files that a run keeps in its folder (run_dir). This is the only place that
// knows their names; launch/README.md describes their contents.
#pragma once

#include <string>
#include <utility>

#include "absl/strings/str_format.h"

namespace unipool {

class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  // The resolved config with every field explicit. A folder that has it holds a run.
  std::string config() const { return path_ + "/config.textproto"; }
  // One JSON record per step.
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  // One JSON object per start, save, rewind and end.
  std::string events() const { return path_ + "/events.jsonl"; }
  // Folder of the checkpoints.
  std::string checkpoints() const { return path_ + "/checkpoints"; }
  // Names the newest checkpoint.
  std::string latest() const { return checkpoints() + "/latest"; }
  // Folder of the tokens per layer and expert, one file per validation.
  std::string loads() const { return path_ + "/loads"; }
  // Folder of the text logs of all ranks, and the prefix of their names.
  std::string log() const { return path_ + "/log"; }
  // The log of a rank, to which each start appends.
  std::string log(int rank, const std::string& host) const {
    return absl::StrFormat("%s/rank_%05d.%s.log", log(), rank, host);
  }
  // Held by the process that writes to the folder.
  std::string lock() const { return path_ + "/.lock"; }

 private:
  std::string path_;
};

}  // namespace unipool
