// Identifies a CPU or one GPU: where memory lives and where work runs. A value type.
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

enum class DeviceType : uint8_t { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;

  bool operator==(const Device&) const = default;
};

// "cpu" or "cuda:3".
std::string ToString(Device device);

// Physical memory of this host in bytes, or the limit of the process's cgroups if that is smaller.
int64_t HostMemoryBytes();
// Number of cores that this process may use: its affinity mask, or the quota of its cgroups if that
// is smaller.
int HostCores();

}  // namespace unipool
