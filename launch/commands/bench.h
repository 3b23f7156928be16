// What the modes of `unipool bench` share, and the modes that have files of their own.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/run.pb.h"
#include "launch/train/loaders.h"
#include "launch/world/world.h"

namespace unipool {

// A new folder inside of another, gone with the object.
class TemporaryFolder {
 public:
  // FAILED_PRECONDITION where nothing can be written.
  static absl::StatusOr<std::unique_ptr<TemporaryFolder>> Create(const std::string& parent);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

// Text with the skew of words, which becomes the run's.
struct MadeUpText {
  std::unique_ptr<TemporaryFolder> folder;
  std::unique_ptr<Corpus> corpus;
};
absl::StatusOr<MadeUpText> MakeUpText(config::Run* run);

// `unipool bench checkpoint`: saves and loads the state of a run of one step `times` times in a new
// folder inside of `parent`, beside plain writes and reads of as many bytes. Collective.
absl::Status BenchCheckpoint(config::Run run, const std::string& parent, int64_t times,
                             World& world);

}  // namespace unipool
