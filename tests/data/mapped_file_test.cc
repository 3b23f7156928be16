#include "data/mapped_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <utility>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

constexpr int kStatus = 7;
constexpr int64_t kBytes = 3 << 20;

// Truncates the file and then reads a byte beyond its new end.
void ReadLostByte(const MappedFile& file, const std::string& path) {
  MappedFile::ExitOnLostPage(kStatus);
  std::filesystem::resize_file(path, 1 << 20);
  volatile uint8_t byte = file.data()[2 << 20];
  static_cast<void>(byte);
}

TEST(MappedFileDeathTest, ALostPageExitsWithTheFileAndTheByte) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const testing::TempFolder folder;
  const std::string path = folder.Write("text.bin", std::string(kBytes, 'x'));
  const MappedFile other = MappedFile::Open(folder.Write("other.bin", "y")).value();
  MappedFile opened = MappedFile::Open(path).value();
  const MappedFile file = std::move(opened);
  EXPECT_EXIT(ReadLostByte(file, path), ::testing::ExitedWithCode(kStatus),
              "^unipool: [^\n]*/text.bin: cannot read byte 2097152: [^\n]*\n$");
}

TEST(MappedFileDeathTest, OtherBusErrorsKillTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto raise_it = [] {
    MappedFile::ExitOnLostPage(kStatus);
    raise(SIGBUS);
    raise(SIGBUS);  // the faulting instruction runs again
  };
  EXPECT_EXIT(raise_it(), ::testing::KilledBySignal(SIGBUS), "");
}

TEST(MappedFile, HoldsTheBytesOfAFileEvenIfEmpty) {
  const testing::TempFolder folder;
  const MappedFile file = MappedFile::Open(folder.Write("a", "bytes")).value();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), 5), "bytes");
  EXPECT_EQ(MappedFile::Open(folder.Write("none", "")).value().bytes(), 0);
  EXPECT_STATUS(MappedFile::Open(folder.Path("missing")), kNotFound, "missing: cannot open");
}

TEST(MappedFile, RefusesAPipeWithoutWaitingForItsWriter) {
  const testing::TempFolder folder;
  ASSERT_EQ(mkfifo(folder.Path("pipe").c_str(), 0600), 0);
  EXPECT_STATUS(MappedFile::Open(folder.Path("pipe")), kInvalidArgument, "not a regular file");
}

}  // namespace
}  // namespace unipool
