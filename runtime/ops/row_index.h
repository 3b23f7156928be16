// The index of a row that does not exist. A router's choice with gate 0 has no row: nothing is sent
// to its expert, and nothing comes back.
#pragma once

#include <cstdint>

namespace unipool {

inline constexpr int32_t kNoRow = -1;

}  // namespace unipool
