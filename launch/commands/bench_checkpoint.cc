// `unipool bench checkpoint`: measures the speed of saving and loading a run's state beside plain
// writes and reads of the same number of bytes, and how long a save pauses training.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/saver.h"
#include "launch/commands/bench.h"
#include "launch/train/trainer.h"
#include "launch/world/version.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/median.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Parts of a round. Seconds are those of the slowest rank.
enum Part { kWrite, kPlainWrite, kRead, kPlainRead, kReadBack, kCopy, kNumParts };
using Seconds = std::array<double, kNumParts>;

// A file written and read as `dd` and `cat` do: the fastest that a checkpoint can be.
class PlainFile {
 public:
  PlainFile(std::string path, int flags)
      : path_(std::move(path)), file_(open(path_.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~PlainFile() {
    if (file_ >= 0) close(file_);
  }
  PlainFile(const PlainFile&) = delete;
  PlainFile& operator=(const PlainFile&) = delete;

  absl::Status Write(int64_t bytes) {
    const std::vector<char> chunk(kChunkBytes, 'u');
    while (bytes > 0) {
      const ssize_t put =
          write(file_, chunk.data(), static_cast<size_t>(std::min(kChunkBytes, bytes)));
      if (put < 0) return Error("write");
      bytes -= put;
    }
    return fsync(file_) == 0 ? absl::OkStatus() : Error("fsync");
  }

  absl::Status ReadAll() {
    std::vector<char> chunk(kChunkBytes);
    while (true) {
      const ssize_t got = read(file_, chunk.data(), chunk.size());
      if (got < 0) return Error("read");
      if (got == 0) return absl::OkStatus();
    }
  }

  // Drops the file from the page cache, so that the next reader reads the disk.
  absl::Status DropFromCache() {
    errno = posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
    return errno == 0 ? absl::OkStatus() : Error("posix_fadvise");
  }

 private:
  // Larger chunks measured no faster.
  static constexpr int64_t kChunkBytes = int64_t{1} << 20;

  absl::Status Error(const char* what) const {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": ", what, ": ", std::strerror(errno)));
  }

  const std::string path_;
  const int file_;
};

// Borrowed by all rounds.
struct Bench {
  const std::string& folder;
  World& world;
  Trainer& trainer;
  CheckpointSaver& saver;
};

// Saves the run's state as that of `step`; sets `bytes` to the size of the files of all ranks.
absl::Status Save(int64_t step, const Bench& bench, int64_t* bytes, Seconds* seconds) {
  TrainingState state = bench.trainer.state();
  state.step = step;
  const SaveTotals before = bench.saver.totals(), &now = bench.saver.totals();
  bench.saver.AfterStep(state);
  const double copy = now.stall_seconds - before.stall_seconds;
  bench.saver.Settle();
  RETURN_IF_ERROR(bench.saver.SaveNow(state).status());  // returns at once unless the save failed
  const double read_back = now.verify_seconds - before.verify_seconds;
  (*seconds)[kCopy] = copy;
  (*seconds)[kReadBack] = read_back;
  (*seconds)[kWrite] = now.write_seconds - before.write_seconds - read_back - copy;
  *bytes = now.bytes - before.bytes;
  return absl::OkStatus();
}

absl::Status DropFolderFromCache(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    RETURN_IF_ERROR(PlainFile(entry.path().string(), O_RDONLY).DropFromCache());
  }
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(folder, ": ", error.message()));
}

absl::Status Load(const std::string& folder, const Bench& bench, Seconds* seconds) {
  const World& world = bench.world;
  RETURN_IF_ERROR(world.Agree(world.is_first() ? DropFolderFromCache(folder) : absl::OkStatus()));
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  RETURN_IF_ERROR(world.Agree(checkpoint.status()));
  RETURN_IF_ERROR(LoadState(*checkpoint, bench.trainer.state(), world));
  (*seconds)[kRead] = SecondsSince(start);
  return absl::OkStatus();
}

absl::Status PlainWrite(const std::string& path, int64_t bytes, Seconds* seconds) {
  PlainFile file(path, O_WRONLY | O_CREAT | O_TRUNC);
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(file.Write(bytes));
  (*seconds)[kPlainWrite] = SecondsSince(start);
  return file.DropFromCache();
}

absl::Status PlainRead(const std::string& path, Seconds* seconds) {
  PlainFile file(path, O_RDONLY);
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(file.ReadAll());
  (*seconds)[kPlainRead] = SecondsSince(start);
  return absl::OkStatus();
}

// Calls `one` and `other` in this order, or in the other order if `swapped`. Collective.
absl::Status Both(const World& world, bool swapped, const std::function<absl::Status()>& one,
                  const std::function<absl::Status()>& other) {
  world.groups().world().Barrier();
  RETURN_IF_ERROR(world.Agree(swapped ? other() : one()));
  return world.Agree(swapped ? one() : other());
}

// Saves and loads, and writes and reads plain files of the same size, which it stores in `bytes`.
// The order alternates from step to step. Removes its files.
absl::Status Round(int64_t step, const Bench& bench, int64_t* bytes, Seconds* seconds) {
  const World& world = bench.world;
  const std::string folder = CheckpointPath(bench.folder, step);
  const std::string plain = absl::StrCat(bench.folder, "/plain-", world.rank());
  const bool swapped = step % 2 == 0;
  RETURN_IF_ERROR(Both(
      world, swapped, [&] { return Save(step, bench, bytes, seconds); },
      [&] { return PlainWrite(plain, *bytes / world.size(), seconds); }));
  RETURN_IF_ERROR(Both(
      world, swapped, [&] { return Load(folder, bench, seconds); },
      [&] { return PlainRead(plain, seconds); }));
  world.groups().world().AllReduce(Tensor::Of(seconds->data(), {kNumParts}), ReduceOp::kMax,
                                   *Stream::Create(Device{}));
  absl::Status removed = RemoveTree(plain);
  if (world.is_first()) removed.Update(RemoveTree(folder));
  return world.Agree(removed);
}

void Print(const std::vector<Seconds>& rounds, int64_t bytes, const Bench& bench) {
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  const auto median = [&](Part part) {
    std::vector<double> values;
    for (const Seconds& seconds : rounds) values.push_back(seconds[part]);
    return Median(values);
  };
  const auto beside = [&](const char* name, double own, double plain) {
    absl::PrintF("%-17s %.3f GB/s, plain %.3f GB/s: %.1f %%\n", name, gigabytes / own,
                 gigabytes / plain, 100 * plain / own);
  };
  absl::PrintF("version           %s\n", VersionLine());
  absl::PrintF("state             %.6f GB, ranks %d, median of %d rounds\n", gigabytes,
               bench.world.size(), rounds.size());
  beside("write", median(kWrite), median(kPlainWrite));
  beside("read", median(kRead), median(kPlainRead));
  absl::PrintF("read back         %.3f GB/s, as part of a save\n", gigabytes / median(kReadBack));
  absl::PrintF("copy              %.4f s that a save pauses training\n", median(kCopy));
}

absl::Status Measure(const config::Run& run, const std::string& folder, int64_t times,
                     const Corpus& corpus, World& world) {
  const auto trainer = Trainer::Create(run, corpus, world);
  RETURN_IF_ERROR(world.Agree(trainer.status()));
  RETURN_IF_ERROR((*trainer)->Step().status());  // so that the moments are not zero
  config::Checkpoint settings;
  settings.set_asynchronous(true);
  settings.set_every_steps(1);
  settings.set_keep_last(0);
  ASSIGN_OR_RETURN(const auto saver, CheckpointSaver::Create(folder, settings, world));
  const Bench bench{folder, world, **trainer, *saver};
  std::vector<Seconds> rounds(static_cast<size_t>(times));
  int64_t bytes = 0;
  for (int64_t i = 0; i < times; ++i) {
    RETURN_IF_ERROR(Round(i + 1, bench, &bytes, &rounds[i]));
  }
  if (world.is_first()) Print(rounds, bytes, bench);
  return absl::OkStatus();
}

}  // namespace

absl::Status BenchCheckpoint(config::Run run, const std::string& parent, int64_t times,
                             World& world) {
  absl::StatusOr<std::unique_ptr<TemporaryFolder>> folder = nullptr;
  if (world.is_first()) folder = TemporaryFolder::Create(parent);
  RETURN_IF_ERROR(world.Agree(folder.status()));
  const std::string path = world.Gather(world.is_first() ? (*folder)->path() : "")[0];
  const absl::StatusOr<SyntheticText> text = WriteSyntheticText(&run);
  RETURN_IF_ERROR(world.Agree(text.status()));
  return Measure(run, path, times, *text->corpus, world);
}

}  // namespace unipool
