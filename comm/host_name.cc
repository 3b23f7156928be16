#include "comm/host_name.h"

#include <unistd.h>

namespace unipool {

std::string HostName() {
  char name[256] = "";
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "unknown-host";
  return name;
}

}  // namespace unipool
