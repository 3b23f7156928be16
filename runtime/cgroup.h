// Limits of the control groups (cgroups) of this process, version 1 and 2. Containers, Slurm and
// systemd set them on the group of the process or on a group above it.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace unipool {

struct CgroupLimits {
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

  double cores = std::numeric_limits<double>::infinity();  // CPU time per wall-clock time
  int64_t memory_bytes = kUnlimited;
  std::string memory_group;  // folder of the group that sets memory_bytes; empty if unlimited
};

// The smallest limits of the groups of this process and of all groups above them. `proc` is the
// folder of the process in /proc, from which `cgroup` and `mountinfo` are read. A file that cannot
// be read limits nothing.
CgroupLimits ReadCgroupLimits(const std::string& proc = "/proc/self");

}  // namespace unipool
