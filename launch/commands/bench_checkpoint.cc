// `unipool bench checkpoint`: how fast a run's state goes to the disk and comes back, beside plain
// writes and reads of as many bytes, and how long training stands still for it.
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
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/saver.h"
#include "launch/commands/bench.h"
#include "launch/train/trainer.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/median.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Seconds of a round, by what was done; of the slowest rank.
enum Work { kWrite, kPlainWrite, kRead, kPlainRead, kReadBack, kCopy, kNumWorks };
using Seconds = std::array<double, kNumWorks>;

// What `dd` and `cat` do: the floor under checkpoints.
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

  // The next reader gets the bytes from the disk.
  absl::Status DropFromMemory() {
    errno = posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
    return errno == 0 ? absl::OkStatus() : Error("posix_fadvise");
  }

 private:
  // As for dd, and here as fast as any larger size.
  static constexpr int64_t kChunkBytes = int64_t{1} << 20;

  absl::Status Error(const char* what) const {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": ", what, ": ", std::strerror(errno)));
  }

  const std::string path_;
  const int file_;
};

// Borrowed by the rounds.
struct Parts {
  const std::string& folder;
  World& world;
  Trainer& trainer;
  CheckpointSaver& saver;
};

// The run's state as that of `step`; `bytes` is those of all ranks' files.
absl::Status Save(int64_t step, const Parts& parts, int64_t* bytes, Seconds* seconds) {
  TrainingState state = parts.trainer.state();
  state.step = step;
  const SaveTotals before = parts.saver.totals(), &now = parts.saver.totals();
  parts.saver.AfterStep(state);
  const double copy = now.stall_seconds - before.stall_seconds;
  parts.saver.Settle();
  RETURN_IF_ERROR(parts.saver.SaveNow(state).status());  // at once, unless it had failed
  const double read_back = now.verify_seconds - before.verify_seconds;
  (*seconds)[kCopy] = copy;
  (*seconds)[kReadBack] = read_back;
  (*seconds)[kWrite] = now.write_seconds - before.write_seconds - read_back - copy;
  *bytes = now.bytes - before.bytes;
  return absl::OkStatus();
}

absl::Status DropFolderFromMemory(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    RETURN_IF_ERROR(PlainFile(entry.path().string(), O_RDONLY).DropFromMemory());
  }
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(folder, ": ", error.message()));
}

absl::Status Load(const std::string& folder, const Parts& parts, Seconds* seconds) {
  const World& world = parts.world;
  RETURN_IF_ERROR(world.Agree(world.is_first() ? DropFolderFromMemory(folder) : absl::OkStatus()));
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  RETURN_IF_ERROR(world.Agree(checkpoint.status()));
  RETURN_IF_ERROR(LoadState(*checkpoint, parts.trainer.state(), world));
  (*seconds)[kRead] = SecondsSince(start);
  return absl::OkStatus();
}

absl::Status PlainWrite(const std::string& path, int64_t bytes, Seconds* seconds) {
  PlainFile file(path, O_WRONLY | O_CREAT | O_TRUNC);
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(file.Write(bytes));
  (*seconds)[kPlainWrite] = SecondsSince(start);
  return file.DropFromMemory();
}

absl::Status PlainRead(const std::string& path, Seconds* seconds) {
  PlainFile file(path, O_RDONLY);
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(file.ReadAll());
  (*seconds)[kPlainRead] = SecondsSince(start);
  return absl::OkStatus();
}

// One after the other, on all ranks.
absl::Status Both(const World& world, bool swapped, const std::function<absl::Status()>& one,
                  const std::function<absl::Status()>& other) {
  world.groups().world().Barrier();
  RETURN_IF_ERROR(world.Agree(swapped ? other() : one()));
  return world.Agree(swapped ? one() : other());
}

// Saves and loads, and does the same plainly with `bytes` on all ranks, which it sets; which of the
// two comes first changes from step to step. Leaves nothing behind.
absl::Status Round(int64_t step, const Parts& parts, int64_t* bytes, Seconds* seconds) {
  const World& world = parts.world;
  const std::string folder = CheckpointPath(parts.folder, step);
  const std::string plain = absl::StrCat(parts.folder, "/plain-", world.rank());
  const bool swapped = step % 2 == 0;
  RETURN_IF_ERROR(Both(
      world, swapped, [&] { return Save(step, parts, bytes, seconds); },
      [&] { return PlainWrite(plain, *bytes / world.size(), seconds); }));
  RETURN_IF_ERROR(Both(
      world, swapped, [&] { return Load(folder, parts, seconds); },
      [&] { return PlainRead(plain, seconds); }));
  world.groups().world().AllReduce(Tensor::Of(seconds->data(), {kNumWorks}), ReduceOp::kMax,
                                   *Stream::Create(Device{}));
  absl::Status removed = RemoveTree(plain);
  if (world.is_first()) removed.Update(RemoveTree(folder));
  return world.Agree(removed);
}

void Print(const std::vector<Seconds>& rounds, int64_t bytes, const Parts& parts) {
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  const auto median = [&](Work work) {
    std::vector<double> values;
    for (const Seconds& seconds : rounds) values.push_back(seconds[work]);
    return Median(values);
  };
  const auto beside = [&](const char* name, double own, double plain) {
    absl::PrintF("%-17s %.3f GB/s, plain %.3f GB/s: %.1f %%\n", name, gigabytes / own,
                 gigabytes / plain, 100 * plain / own);
  };
  absl::PrintF("state             %.6f GB, ranks %d, median of %d\n", gigabytes, parts.world.size(),
               rounds.size());
  beside("write", median(kWrite), median(kPlainWrite));
  beside("read", median(kRead), median(kPlainRead));
  absl::PrintF("read back         %.3f GB/s, as part of a save\n", gigabytes / median(kReadBack));
  absl::PrintF("copy              %.4f s that training stands still\n", median(kCopy));
}

absl::Status Measure(const config::Run& run, const std::string& folder, int64_t times,
                     const Corpus& corpus, World& world) {
  const auto trainer = Trainer::Create(run, corpus, world);
  RETURN_IF_ERROR(world.Agree(trainer.status()));
  RETURN_IF_ERROR((*trainer)->Step().status());  // or the moments would be zeros
  config::Checkpoint settings;
  settings.set_asynchronous(true);
  settings.set_every_steps(1);
  settings.set_keep_last(0);
  ASSIGN_OR_RETURN(const auto saver, CheckpointSaver::Create(folder, settings, world));
  const Parts parts{folder, world, **trainer, *saver};
  std::vector<Seconds> rounds(static_cast<size_t>(times));
  int64_t bytes = 0;
  for (int64_t i = 0; i < times; ++i) {
    RETURN_IF_ERROR(Round(i + 1, parts, &bytes, &rounds[i]));
  }
  if (world.is_first()) Print(rounds, bytes, parts);
  return absl::OkStatus();
}

}  // namespace

absl::Status BenchCheckpoint(config::Run run, const std::string& parent, int64_t times,
                             World& world) {
  absl::StatusOr<std::unique_ptr<TemporaryFolder>> folder = nullptr;
  if (world.is_first()) folder = TemporaryFolder::Create(parent);
  RETURN_IF_ERROR(world.Agree(folder.status()));
  const std::string path = world.Gather(world.is_first() ? (*folder)->path() : "")[0];
  const absl::StatusOr<MadeUpText> text = MakeUpText(&run);
  RETURN_IF_ERROR(world.Agree(text.status()));
  return Measure(run, path, times, *text->corpus, world);
}

}  // namespace unipool
