#include "model/precision.h"

#include "configs/run.pb.h"

namespace unipool {

DType ActivationType(const config::Run& run, DeviceType device) {
  const config::Model::Precision precision = run.model().precision();
  const bool rounds = precision == config::Model::BF16 ||
                      (precision == config::Model::AUTO && device == DeviceType::kCuda);
  return rounds ? DType::kBFloat16 : DType::kFloat32;
}

}  // namespace unipool
