#include "launch/train/run_lock.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::TempFolder;

TEST(RunLock, NamesItsHolder) {
  const TempFolder folder;
  const RunFolder path(folder.Path(""));
  auto held = RunLock::Acquire(path, absl::ZeroDuration()).value();
  EXPECT_STATUS(RunLock::Acquire(path, absl::ZeroDuration()), kFailedPrecondition,
                absl::StrCat(" is in use by process ", getpid(), " on "));
  held.reset();
  EXPECT_FALSE(std::filesystem::exists(path.lock()));
  EXPECT_OK(RunLock::Acquire(path, absl::ZeroDuration()));
}

TEST(RunLock, WaitsForTheHolder) {
  const TempFolder folder;
  auto held = RunLock::Acquire(RunFolder(folder.Path("")), absl::ZeroDuration()).value();
  std::thread holder([&held] {
    absl::SleepFor(absl::Milliseconds(300));
    held.reset();
  });
  const absl::Time start = absl::Now();
  EXPECT_OK(RunLock::Acquire(RunFolder(folder.Path("")), absl::Seconds(60)));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(200));
  holder.join();
}

TEST(RunLock, AcquiresTheFileOfAKilledRun) {
  const TempFolder folder;
  folder.Write(".lock", "process 1 on a host that is gone");
  EXPECT_OK(RunLock::Acquire(RunFolder(folder.Path("")), absl::ZeroDuration()));
}

TEST(RunLock, AFolderThatCannotBeWrittenIsNamed) {
  const TempFolder folder;
  EXPECT_STATUS(RunLock::Acquire(RunFolder(folder.Path("missing")), absl::ZeroDuration()),
                kFailedPrecondition, "missing/.lock: cannot be written: No such file or directory");
}

}  // namespace
}  // namespace unipool
