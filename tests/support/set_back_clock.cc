// Preloaded into a process whose clock a test sets back: from when the file exists that
// UNIPOOL_SET_BACK names, the time of day is an hour earlier. The monotonic clock is not changed.
#include <dlfcn.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>

namespace {

using ClockGetTime = int (*)(clockid_t, timespec*);

int Original(clockid_t clock, timespec* time) {
  static const auto next = reinterpret_cast<ClockGetTime>(dlsym(RTLD_NEXT, "clock_gettime"));
  return next(clock, time);
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* time) {
  static const char* const file = std::getenv("UNIPOOL_SET_BACK");
  const int result = Original(clock, time);
  const bool is_date = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  if (is_date && file != nullptr && access(file, F_OK) == 0) time->tv_sec -= 3600;
  return result;
}

extern "C" int gettimeofday(timeval* time, void*) {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}
