// Parts that the sub-commands of `unipool bench` share.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/config/messages.h"
#include "launch/train/loaders.h"
#include "launch/world/world.h"

namespace unipool {

// A new folder inside another one; the destructor removes it with its files.
class TemporaryFolder {
 public:
  // FAILED_PRECONDITION if `parent` cannot be written to.
  static absl::StatusOr<std::unique_ptr<TemporaryFolder>> Create(const std::string& parent);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

// Synthetic token files with word frequencies like those of natural text.
struct SyntheticText {
  std::unique_ptr<TemporaryFolder> folder;
  std::unique_ptr<Corpus> corpus;
};
// Writes them to a temporary folder and makes them the data of `run`.
absl::StatusOr<SyntheticText> WriteSyntheticText(config::Run* run);

// `unipool bench checkpoint`: saves and loads the state of a run after one step `times` times in a
// temporary folder inside `parent`, and compares the speed with plain writes and reads of the same
// number of bytes. Collective.
absl::Status BenchCheckpoint(config::Run run, const std::string& parent, int64_t times,
                             World& world);

}  // namespace unipool
