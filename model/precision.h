// In which numbers a run computes: model.precision on a kind of device.
#pragma once

#include "runtime/device.h"
#include "runtime/dtype.h"

namespace unipool {

namespace config {
class Run;
}

// Of activations and of the weights that are read beside them: float32 or bfloat16.
DType ActivationType(const config::Run& run, DeviceType device);

}  // namespace unipool
