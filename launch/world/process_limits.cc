#include "launch/world/process_limits.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <fstream>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/mpi_communicator.h"
#include "launch/world/exit_codes.h"

namespace unipool {
namespace {

// A field of /proc/self/status, such as "VmSize:", in bytes.
int64_t StatusBytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t kib = 0;
    if (word == field && file >> kib) return kib << 10;
  }
  return 0;
}

void Apply(int resource, const char* field, const char* name, AddressSpace& space) {
  rlimit limit = {};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  // The kernel's largest limits mean "unlimited" as well.
  const auto bytes =
      static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, AddressSpace::kUnlimited));
  const int64_t left = std::max<int64_t>(0, bytes - StatusBytes(field));
  if (left >= space.left_bytes) return;
  space = {.limit_bytes = bytes, .left_bytes = left, .limit_name = name};
}

std::string WhyThreadsFail() {
  const AddressSpace space = ReadAddressSpace();
  std::string limits = "the limits on processes (ulimit -u)";
  if (space.limit_bytes != AddressSpace::kUnlimited) {
    absl::StrAppend(&limits, " and ", space.limit_name, ", ", space.limit_bytes >> 20, " MiB");
  }
  return limits;
}

std::string Describe(const std::exception_ptr& exception) {
  try {
    if (exception != nullptr) std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    const AddressSpace space = ReadAddressSpace();
    if (space.limit_bytes == AddressSpace::kUnlimited) return "out of memory";
    return absl::StrCat("out of memory; raise the limit on ", space.limit_name, ", ",
                        space.limit_bytes >> 20, " MiB");
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) return error.what();
    return absl::StrCat("cannot start a thread; raise ", WhyThreadsFail());
  } catch (const std::exception& error) {
    return absl::StrCat("internal error: ", error.what());
  } catch (...) {
  }
  return "internal error";
}

[[noreturn]] void EndOnException() {
  const std::string line = "unipool: " + Describe(std::current_exception()) + "\n";
  std::fputs(line.c_str(), stderr);
  if (LaunchedByMpi()) AbortMpi(kExitFailure);
  _exit(kExitFailure);
}

}  // namespace

AddressSpace ReadAddressSpace() {
  AddressSpace space;
  Apply(RLIMIT_AS, "VmSize:", "address space (ulimit -v)", space);
  Apply(RLIMIT_DATA, "VmData:", "data (ulimit -d)", space);
  return space;
}

int64_t ThreadsAddressBytes(int threads) {
  // A buffer of OpenBLAS, a heap of malloc, and a stack.
  constexpr int64_t kPerThread = int64_t{128 + 64 + 8} << 20;
  constexpr int64_t kLibraries = int64_t{128} << 20;  // MPI, files, threads that do not compute
  return kLibraries + threads * kPerThread;
}

absl::Status CheckThreads(int threads) {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_done = false;
  std::vector<std::thread> started;
  bool is_refused = false;
  try {
    for (int i = 0; i < threads; ++i) {
      started.emplace_back([&] {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return is_done; });
      });
    }
  } catch (const std::system_error&) {
    is_refused = true;
  }
  {
    const std::lock_guard lock(mutex);
    is_done = true;
  }
  changed.notify_all();
  for (std::thread& thread : started) thread.join();
  if (!is_refused) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("cannot start ", threads, " threads; raise ",
                                                   WhyThreadsFail(),
                                                   ", or use fewer (--threads N)"));
}

void ReportUncaughtExceptions() { std::set_terminate(&EndOnException); }

}  // namespace unipool
