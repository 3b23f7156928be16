// `unipool data ...`: makes token files from text, shows them, and measures the baseline on them.
#pragma once

#include "absl/types/span.h"

namespace unipool {

// `args` are those after `data`. The exit status: 0, 1 after an error of the data, 2 after one of
// the command line.
int DataCommand(absl::Span<char* const> args);

}  // namespace unipool
