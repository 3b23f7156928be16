#include "data/input_file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::TempFolder;

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
