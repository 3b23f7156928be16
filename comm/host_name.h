// The name of this host for errors and logs.
#pragma once

#include <string>

namespace unipool {

// gethostname(), or "unknown-host" if it fails.
std::string HostName();

}  // namespace unipool
