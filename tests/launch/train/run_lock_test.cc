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

TEST(RunLock, IsHeldByOneAndNamesIt) {
  const TempFolder folder;
  const std::string path = folder.Path("");
  auto held = RunLock::Take(path, absl::ZeroDuration()).value();
  EXPECT_STATUS(RunLock::Take(path, absl::ZeroDuration()), kFailedPrecondition,
                absl::StrCat(": another run is in it (process ", getpid(), " on "));
  held.reset();
  EXPECT_FALSE(std::filesystem::exists(path + "/.lock"));
  EXPECT_OK(RunLock::Take(path, absl::ZeroDuration()));
}

TEST(RunLock, IsWaitedFor) {
  const TempFolder folder;
  auto held = RunLock::Take(folder.Path(""), absl::ZeroDuration()).value();
  std::thread holder([&held] {
    absl::SleepFor(absl::Milliseconds(300));
    held.reset();
  });
  const absl::Time start = absl::Now();
  EXPECT_OK(RunLock::Take(folder.Path(""), absl::Seconds(60)));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(200));
  holder.join();
}

// What a killed run leaves is no lock.
TEST(RunLock, AFileWithoutAHolderIsTaken) {
  const TempFolder folder;
  folder.Write(".lock", "process 1 on a host that is gone");
  EXPECT_OK(RunLock::Take(folder.Path(""), absl::ZeroDuration()));
}

TEST(RunLock, AFolderThatCannotBeWrittenIsNamed) {
  const TempFolder folder;
  EXPECT_STATUS(RunLock::Take(folder.Path("missing"), absl::ZeroDuration()), kFailedPrecondition,
                "missing/.lock: cannot be written: No such file or directory");
}

}  // namespace
}  // namespace unipool
