// Completion scripts of shells, written from the table of commands.
#pragma once

#include <string>
#include <vector>

#include "launch/commands/command.h"

namespace unipool {

// To be sourced by bash; needs nothing else.
std::string BashCompletion(const std::vector<Command>& commands);
// The file _unipool in a folder of zsh's fpath.
std::string ZshCompletion(const std::vector<Command>& commands);

}  // namespace unipool
