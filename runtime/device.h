// Where memory lives and work runs: a value, compared and copied freely.
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

// Physical memory of this host, or the cgroup's limit when smaller, in bytes.
int64_t HostMemoryBytes();
// Cores that this process may run on (its affinity mask, or the cgroup's quota when smaller).
int HostCores();

}  // namespace unipool
