// An LD_PRELOAD library that delays each fsync by 50 ms, so that a save takes long enough for a
// test to observe it.
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int fsync(int file) {
  constexpr useconds_t kMicroseconds = 50'000;
  usleep(kMicroseconds);
  return static_cast<int>(syscall(SYS_fsync, file));
}
