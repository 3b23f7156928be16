// The man page unipool(1), written from the table of commands.
#pragma once

#include <string>
#include <vector>

#include "launch/commands/command.h"

namespace unipool {

// In the macros of man(7), for groff and mandoc.
std::string ManPage(const std::vector<Command>& commands);

}  // namespace unipool
