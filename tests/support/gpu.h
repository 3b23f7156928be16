// Whether tests of CUDA can run here.
#pragma once

namespace unipool::testing {

// Empty where there is a GPU, real or emulated; else why not.
const char* WhyNoGpu();
bool GpuIsEmulated();

}  // namespace unipool::testing

#define SKIP_WITHOUT_GPU() \
  if (const char* why = ::unipool::testing::WhyNoGpu(); *why != '\0') GTEST_SKIP() << why
