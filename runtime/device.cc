#include "runtime/device.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "runtime/cgroup.h"

namespace unipool {
std::string ToString(Device device) {
  return device.type == DeviceType::kCpu ? "cpu" : absl::StrCat("cuda:", device.index);
}

int64_t HostMemoryBytes() {
  const int64_t physical = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  return std::min(physical, ReadCgroupLimits().memory_bytes);
}

int HostCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int affinity = sched_getaffinity(0, sizeof(set), &set) == 0
                           ? CPU_COUNT(&set)
                           : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const double cores = std::min<double>(affinity, ReadCgroupLimits().cores);
  return std::max(1, static_cast<int>(std::lround(cores)));
}

}  // namespace unipool
