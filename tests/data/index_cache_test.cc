#include "data/index_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::SizeIs;

class IndexCacheTest : public ::testing::Test {
 protected:
  CacheEntry Entry() const { return {.prefix = folder_.Path("x"), .folder = "", .key = "key 1\n"}; }

  std::vector<uint8_t> Payload() const {
    std::vector<uint8_t> bytes(10001);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
    return bytes;
  }

  // Loads or builds the entry, counts builds and returns the bytes.
  std::vector<uint8_t> Get(const CacheEntry& entry, bool expect_mapped = true) {
    const auto bytes = LoadOrBuild(entry, [this]() -> absl::StatusOr<std::vector<uint8_t>> {
      ++builds_;
      return Payload();
    });
    EXPECT_OK(bytes);
    EXPECT_EQ(bytes->is_mapped(), expect_mapped);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes->data()) % 8, 0u);
    return {bytes->data(), bytes->data() + bytes->bytes()};
  }

  testing::TempFolder folder_;
  std::atomic<int> builds_ = 0;
};

TEST_F(IndexCacheTest, BuildsOnceThenMaps) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Get(Entry()), Payload());
  EXPECT_EQ(builds_, 1);
  EXPECT_THAT(folder_.Names(), SizeIs(1));  // no lock file, no partial file
}

TEST_F(IndexCacheTest, AnotherKeyIsAnotherFile) {
  CacheEntry entry = Entry();
  Get(entry);
  entry.key = "key 2\n";
  Get(entry);
  EXPECT_EQ(builds_, 2);
  EXPECT_THAT(folder_.Names(), SizeIs(2));
}

TEST_F(IndexCacheTest, AFileOfAnotherKeyIsRebuilt) {
  CacheEntry entry = Entry();
  Get(entry);
  const std::string path = CachePath(entry);
  entry.key = "key 2\n";
  std::filesystem::rename(path, CachePath(entry));
  Get(entry);
  EXPECT_EQ(builds_, 2);
}

TEST_F(IndexCacheTest, EveryDamagedByteIsDetected) {
  Get(Entry());
  const std::string path = CachePath(Entry());
  const std::string name = std::filesystem::path(path).filename();
  const std::string whole = folder_.ReadAll(name);
  int builds = 1;
  for (size_t at = 0; at < whole.size(); at += at < 80 ? 1 : 997) {
    if (at >= 48 + 6 && at < 56) continue;  // padding of the key is not checked
    std::string bad = whole;
    bad[at] ^= 1;
    folder_.Write(name, bad);
    ASSERT_EQ(Get(Entry()), Payload()) << at;
    ASSERT_EQ(builds_, ++builds) << at;
    ASSERT_EQ(folder_.ReadAll(name), whole);
  }
}

TEST_F(IndexCacheTest, AFileOfAnotherSizeIsRebuilt) {
  Get(Entry());
  const std::string name = std::filesystem::path(CachePath(Entry())).filename();
  const std::string whole = folder_.ReadAll(name);
  int builds = 1;
  for (const std::string& bad : {std::string(), whole.substr(0, 20), whole.substr(0, 60),
                                 whole.substr(0, whole.size() - 1), whole + "x"}) {
    folder_.Write(name, bad);
    EXPECT_EQ(Get(Entry()), Payload());
    EXPECT_EQ(builds_, ++builds);
  }
}

TEST_F(IndexCacheTest, OfConcurrentCallersOneBuilds) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this] {
      const auto bytes = LoadOrBuild(Entry(), [this]() -> absl::StatusOr<std::vector<uint8_t>> {
        ++builds_;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        return Payload();
      });
      EXPECT_OK(bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(builds_, 1);
  EXPECT_THAT(folder_.Names(), SizeIs(1));
}

TEST_F(IndexCacheTest, AKilledBuilderDoesNotBlockOthers) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    (void)LoadOrBuild(Entry(), [&]() -> absl::StatusOr<std::vector<uint8_t>> {
      if (write(pipe_ends[1], "x", 1) != 1) _exit(1);
      pause();
      return absl::InternalError("");
    });
    _exit(1);
  }
  char byte;
  ASSERT_EQ(read(pipe_ends[0], &byte, 1), 1);  // the child builds and holds the lock
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  folder_.Write(std::filesystem::path(CachePath(Entry())).filename().string() + ".partial", "half");
  EXPECT_EQ(Get(Entry()), Payload());
  EXPECT_THAT(folder_.Names(), SizeIs(1));
}

TEST_F(IndexCacheTest, AFullDiskLeavesTheBytesInMemory) {
  const testing::FileSizeLimit limit(5000);
  EXPECT_EQ(Get(Entry(), /*expect_mapped=*/false), Payload());
  EXPECT_THAT(folder_.Names(), SizeIs(0));
}

TEST_F(IndexCacheTest, AnUnwritableFolderLeavesTheBytesInMemory) {
  CacheEntry entry = Entry();
  entry.folder = "/proc/no-such-folder";
  EXPECT_EQ(Get(entry, /*expect_mapped=*/false), Payload());
  EXPECT_THAT(folder_.Names(), SizeIs(0));
}

TEST_F(IndexCacheTest, TheCacheFolderIsCreatedAndUsed) {
  CacheEntry entry = Entry();
  entry.folder = folder_.Path("cache");
  Get(entry);
  EXPECT_EQ(folder_.Names(), std::vector<std::string>{"cache"});
  EXPECT_TRUE(std::filesystem::exists(CachePath(entry)));
}

TEST_F(IndexCacheTest, ErrorsOfTheBuildAreReturned) {
  const auto bytes = LoadOrBuild(Entry(), []() -> absl::StatusOr<std::vector<uint8_t>> {
    return absl::InvalidArgumentError("no tokens");
  });
  EXPECT_STATUS(bytes, kInvalidArgument, "no tokens");
  EXPECT_THAT(folder_.Names(), SizeIs(0));
}

}  // namespace
}  // namespace unipool
