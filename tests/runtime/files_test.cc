#include "runtime/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/file_size_limit.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::TempFolder;

TEST(SystemError, HasNoCodeOfAnotherEnd) {
  EXPECT_STATUS(SystemError(ENOENT, "a: cannot open"), kNotFound, "a: cannot open: No such file");
  EXPECT_STATUS(SystemError(ENOSPC, "a: write"), kResourceExhausted, "a: write: No space left");
  EXPECT_STATUS(SystemError(EFBIG, "a: write"), kResourceExhausted, "(ulimit -f)");
  EXPECT_STATUS(SystemError(ELOOP, "a: cannot read"), kFailedPrecondition, "symbolic links");
  for (int error = 1; error < 134; ++error) {
    const absl::StatusCode code = SystemError(error, "a").code();
    for (const auto other : {absl::StatusCode::kAborted, absl::StatusCode::kCancelled,
                             absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kOutOfRange}) {
      EXPECT_NE(code, other) << error;
    }
  }
}

TEST(ReadSmallFile, ReadsAFileOfAtMostTheMaximum) {
  const TempFolder folder;
  const std::string bytes(200000, '\0');
  const std::string path = folder.Write("file", bytes);
  EXPECT_EQ(ReadSmallFile(path, 200000).value(), bytes);
  EXPECT_EQ(ReadSmallFile(folder.Write("empty", ""), 0).value(), "");
  EXPECT_STATUS(ReadSmallFile(path, 199999), kFailedPrecondition,
                path + ": larger than 199999 bytes");
  EXPECT_STATUS(ReadSmallFile(folder.Path("none"), 5), kNotFound, "none: cannot be read: No such");
}

TEST(ReadSmallFile, ReadsAPipeUntilItIsClosed) {
  const TempFolder folder;
  const std::string pipe = folder.Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const std::string bytes(300000, 'x');
  std::thread writer([&] { std::ofstream(pipe) << bytes; });
  EXPECT_EQ(ReadSmallFile(pipe, 300000).value(), bytes);
  writer.join();
}

TEST(ReadSmallFile, RefusesWhatHasNoEndOrNoBytes) {
  const TempFolder folder;
  EXPECT_STATUS(ReadSmallFile("/dev/zero", 1 << 20), kFailedPrecondition, "is a device");
  EXPECT_STATUS(ReadSmallFile("/dev/urandom", 1 << 20), kFailedPrecondition, "is a device");
  EXPECT_STATUS(ReadSmallFile(folder.Path(""), 1 << 20), kFailedPrecondition, "is a folder");
  const std::string pipe = folder.Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] {
    std::ofstream file(pipe);
    while (file << std::string(1 << 16, 'x')) continue;
  });
  signal(SIGPIPE, SIG_IGN);
  EXPECT_STATUS(ReadSmallFile(pipe, 1 << 20), kFailedPrecondition, "larger than 1048576 bytes");
  writer.join();
}

TEST(WriteFileAtomically, MakesAndReplacesTheWholeFile) {
  const TempFolder folder;
  for (const std::string text : {"a long first text", "short", ""}) {
    ASSERT_OK(WriteFileAtomically(folder.Path("file"), text));
    EXPECT_EQ(folder.ReadAll("file"), text);
    EXPECT_THAT(folder.Names(), ElementsAre("file"));
  }
}

TEST(WriteFileAtomically, AFullDiskLeavesTheOldFile) {
  const TempFolder folder;
  folder.Write("file", "old");
  {
    const testing::FileSizeLimit limit(100);
    EXPECT_STATUS(WriteFileAtomically(folder.Path("file"), std::string(1000, 'x')),
                  kFailedPrecondition, folder.Path("file.tmp") + ": cannot be written: File too");
  }
  EXPECT_EQ(folder.ReadAll("file"), "old");
  EXPECT_THAT(folder.Names(), ElementsAre("file"));
}

TEST(WriteFileAtomically, AFolderInTheWayIsNamed) {
  const TempFolder folder;
  folder.Write("place/inside", "stays");
  EXPECT_STATUS(WriteFileAtomically(folder.Path("place"), "text"), kFailedPrecondition,
                folder.Path("place") + ": cannot be replaced: Is a directory");
  EXPECT_THAT(folder.Names(), ElementsAre("place"));
  EXPECT_EQ(folder.ReadAll("place/inside"), "stays");
}

TEST(WriteFileAtomically, AMissingFolderIsNamed) {
  const TempFolder folder;
  EXPECT_STATUS(WriteFileAtomically(folder.Path("missing/file"), "text"), kFailedPrecondition,
                folder.Path("missing/file.tmp") + ": cannot be written: No such file or directory");
}

TEST(CheckWritable, LeavesNoTraceAndNamesWhatIsInTheWay) {
  const TempFolder folder;
  folder.Write("old", "stays");
  folder.Write("place/inside", "");
  EXPECT_OK(CheckWritable(folder.Path("old")));
  EXPECT_OK(CheckWritable(folder.Path("new")));
  EXPECT_THAT(folder.Names(), ElementsAre("old", "place"));
  EXPECT_EQ(folder.ReadAll("old"), "stays");
  EXPECT_STATUS(CheckWritable(folder.Path("place")), kFailedPrecondition,
                "place\": cannot be written: not a file; give the path of a file");
  EXPECT_STATUS(CheckWritable(""), kFailedPrecondition, "give the path of a file");
  EXPECT_STATUS(CheckWritable(folder.Path("missing/file")), kFailedPrecondition,
                folder.Path("missing/file") + ": cannot be written: No such file or directory");
}

TEST(MakeFolders, MakesAllThatAreMissingAndKeepsWhatIsThere) {
  const TempFolder folder;
  ASSERT_OK(MakeFolders(folder.Path("a/b/c")));
  folder.Write("a/b/c/file", "stays");
  ASSERT_OK(MakeFolders(folder.Path("a/b/c")));
  EXPECT_EQ(folder.ReadAll("a/b/c/file"), "stays");
}

TEST(MakeFolders, AFileInTheWayIsNamed) {
  const TempFolder folder;
  folder.Write("file", "stays");
  for (const std::string name : {"file/below", "file/far/below", "file"}) {
    EXPECT_STATUS(MakeFolders(folder.Path(name)), kFailedPrecondition,
                  folder.Path(name) + ": the folder cannot be made: Not a directory");
  }
  EXPECT_EQ(folder.ReadAll("file"), "stays");
}

TEST(SyncFolder, TakesFoldersOnly) {
  const TempFolder folder;
  folder.Write("file", "");
  EXPECT_OK(SyncFolder(folder.Path(".")));
  EXPECT_STATUS(SyncFolder(folder.Path("file")), kFailedPrecondition,
                folder.Path("file") + ": cannot be opened: Not a directory");
}

}  // namespace
}  // namespace unipool
