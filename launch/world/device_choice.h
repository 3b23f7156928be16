// Chooses the device of a rank from parallel.device and the devices of its host.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "launch/config/messages.h"
#include "runtime/device.h"

namespace unipool {

// The kind of device that `run` requests; if it requests none, a GPU if this host has one.
DeviceType WantedDevice(const config::Run& run);

// The device of the rank with number `local_rank` on its host. INVALID_ARGUMENT if the run requests
// a GPU and the host has none, or a precision that the device does not support.
absl::StatusOr<Device> ChooseDevice(const config::Run& run, int local_rank);

// For people: "cuda:0 (NVIDIA H100 80GB HBM3, sm_90, 79 GiB), bfloat16" or "CPU, float32, 4 threads
// per rank".
std::string DescribeDevice(const config::Run& run, Device device);

}  // namespace unipool
