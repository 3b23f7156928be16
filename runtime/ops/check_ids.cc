#include "runtime/ops/check_ids.h"

#include <glog/logging.h>

#include <algorithm>

namespace unipool {

void CheckIds(const char* op, const Tensor& ids, int64_t limit, int32_t lowest) {
  const int32_t* values = ids.as<int32_t>();
  const int64_t count = ids.numel();
  if (count == 0) return;
  int32_t low = values[0], high = values[0];
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t i = 0; i < count; ++i) {
    low = values[i] < low ? values[i] : low;
    high = values[i] > high ? values[i] : high;
  }
  if (low >= lowest && high < limit) return;
  const int64_t at =
      std::find_if(values, values + count, [&](int32_t id) { return id < lowest || id >= limit; }) -
      values;
  LOG(FATAL) << op << ": id " << values[at] << " at position " << at << " of " << ids.ShapeString()
             << " is outside [" << lowest << ", " << limit << ")";
}

}  // namespace unipool
