#include "launch/train/stop_agreement.h"

namespace unipool {

bool StopAgreement::Agree(const World& world, Stream& stream) {
  int32_t vote = Vote() > 0 ? 1 : 0;
  world.groups().world().AllReduce(Tensor::Of(&vote, {1}), ReduceOp::kMax, stream);
  Count(vote);
  return stopped_;
}

}  // namespace unipool
