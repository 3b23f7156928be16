// The number formats of a run: model.precision on a kind of device.
#pragma once

#include "runtime/device.h"
#include "runtime/dtype.h"

namespace unipool {

namespace config {
class Run;
}

// The type of activations and of the weights that multiply them: float32 or bfloat16.
DType ActivationType(const config::Run& run, DeviceType device);

}  // namespace unipool
