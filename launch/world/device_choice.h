// On which device a rank computes: parallel.device and what this host has.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool {

namespace config {
class Run;
}

// The kind of device that a run asks for or, where it leaves that open, that this host has.
DeviceType WantedDevice(const config::Run& run);

// The device of the rank that is number `local_rank` on its host. INVALID_ARGUMENT where the run
// wants a GPU and there is none, or numbers that its device does not compute in.
absl::StatusOr<Device> ChooseDevice(const config::Run& run, int local_rank);

// "cuda:0 (NVIDIA H100 80GB HBM3, sm_90, 79 GiB), bfloat16"
std::string DescribeDevice(const config::Run& run, Device device);

}  // namespace unipool
