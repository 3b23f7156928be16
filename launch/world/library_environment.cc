#include "launch/world/library_environment.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <system_error>
#include <thread>

#include "runtime/device.h"

namespace unipool {
namespace {

bool IsSet(const char* name) { return std::getenv(name) != nullptr; }

bool Set(const char* name, const char* value) { return setenv(name, value, /*overwrite=*/0) == 0; }

bool SetWaiting() {
  if (IsSet("OMP_WAIT_POLICY") || IsSet("GOMP_SPINCOUNT")) return true;
  const bool is_busy = 2 * RunningProcesses() > HostCores();
  return is_busy ? Set("OMP_WAIT_POLICY", "passive") : Set("GOMP_SPINCOUNT", "1000");
}

}  // namespace

int RunningProcesses(const char* file) {
  int least = std::numeric_limits<int>::max();
  for (int i = 0; i < 3; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::ifstream text(file);
    std::string averages[3];
    int running = 1;  // the fourth field is "running/existing"
    text >> averages[0] >> averages[1] >> averages[2] >> running;
    least = std::min(least, std::max(0, running - 1));
  }
  return least;
}

void SetLibraryEnvironment(char** argv) {
  const bool is_waiting_set = IsSet("OMP_WAIT_POLICY") || IsSet("GOMP_SPINCOUNT");
  if (is_waiting_set && IsSet("OPENBLAS_NUM_THREADS")) return;
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || !Set("OPENBLAS_NUM_THREADS", "1") || !SetWaiting()) return;
  execv(program.c_str(), argv);  // returns only after an error
}

}  // namespace unipool
