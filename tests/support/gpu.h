// Reports whether CUDA tests can run on this machine.
#pragma once

namespace unipool::testing {

// Returns an empty string if there is a GPU, real or emulated, else the reason why there is none.
const char* WhyNoGpu();
bool GpuIsEmulated();

}  // namespace unipool::testing

#define SKIP_WITHOUT_GPU() \
  if (const char* why = ::unipool::testing::WhyNoGpu(); *why != '\0') GTEST_SKIP() << why
