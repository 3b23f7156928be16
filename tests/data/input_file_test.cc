#include "data/input_file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::TempFolder;

TEST(ReadInput, ReadsFilesUpToTheLimit) {
  const TempFolder folder;
  const std::string text(200'000, 'x');
  const std::string path = folder.Write("a", text);
  EXPECT_EQ(ReadInput(path, 200'000).value(), text);
  EXPECT_STATUS(ReadInput(path, 199'999), kInvalidArgument, "/a: more than 199999 bytes");
  EXPECT_EQ(ReadInput(folder.Write("empty", ""), 0).value(), "");
  EXPECT_STATUS(ReadInput("/nowhere/a", 1), kNotFound, "/nowhere/a: cannot open");
}

TEST(ReadInput, ReadsAPipe) {
  const TempFolder folder;
  const std::string path = folder.Path("pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_TRUE(IsPipe(path));
  EXPECT_FALSE(IsPipe(folder.Path("")) || IsPipe(folder.Path("none")));
  std::thread writer([&folder] { folder.Write("pipe", std::string(300'000, 'y')); });
  EXPECT_EQ(ReadInput(path, 1 << 20).value(), std::string(300'000, 'y'));
  writer.join();
}

TEST(OpenInput, RefusesWhatMayNeverEnd) {
  const TempFolder folder;
  EXPECT_STATUS(OpenInput("/dev/zero"), kInvalidArgument,
                "/dev/zero: a device; expected a file or a pipe");
  EXPECT_STATUS(OpenInput("/dev/urandom"), kInvalidArgument, "a device");
  EXPECT_STATUS(OpenInput(folder.Path("")), kInvalidArgument, "a folder");
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::strncpy(address.sun_path, folder.Path("socket").c_str(), sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_STATUS(OpenInput(folder.Path("socket")), kInvalidArgument, "socket: a socket");
  close(fd);
}

}  // namespace
}  // namespace unipool
