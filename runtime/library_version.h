// The version of a foreign library, as `unipool --version` reports it.
#pragma once

#include <string>

namespace unipool {

struct LibraryVersion {
  std::string built =
      {};  // version of the headers the program was compiled with; "" if built without
  std::string found =
      {};  // version of the library at run time, or the reason why it cannot be used
};

}  // namespace unipool
