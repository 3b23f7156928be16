// Keeps the former defaults of a run that began before they changed.
#pragma once

#include <string>

#include "launch/config/messages.h"

namespace unipool {

// Gives each field of `run` that has its present default, while `saved`, the config of a
// checkpoint, has the former one, the value of `saved`. Returns one line for the user that lists
// these fields, or "" if there are none. `run` must be resolved. A value that the user has set to
// the present default is taken for the default.
std::string AdoptFormerDefaults(const config::Run& saved, config::Run* run);

}  // namespace unipool
