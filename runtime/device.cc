#include "runtime/device.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace unipool {
namespace {

// cpu.max of cgroup v2 contains "quota period" in microseconds, or "max period" if unlimited.
int CgroupCores(int otherwise) {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return otherwise;
  return std::max(1, static_cast<int>(std::lround(quota / period)));
}

// memory.max contains bytes, or "max" if unlimited.
int64_t CgroupMemoryBytes(int64_t otherwise) {
  std::ifstream file("/sys/fs/cgroup/memory.max");
  int64_t bytes = 0;
  return file >> bytes && bytes > 0 ? bytes : otherwise;
}

}  // namespace

std::string ToString(Device device) {
  return device.type == DeviceType::kCpu ? "cpu" : absl::StrCat("cuda:", device.index);
}

int64_t HostMemoryBytes() {
  const int64_t physical = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  return std::min(physical, CgroupMemoryBytes(physical));
}

int HostCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int affinity = sched_getaffinity(0, sizeof(set), &set) == 0
                           ? CPU_COUNT(&set)
                           : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, std::min(affinity, CgroupCores(affinity)));
}

}  // namespace unipool
