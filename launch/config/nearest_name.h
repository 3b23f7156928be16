// "Did you mean ...?" for mistyped names of fields, enum values and flags.
#pragma once

#include <string>
#include <vector>

namespace unipool {

// The name that `name` was probably meant to be, or "" when none is near.
std::string NearestName(const std::string& name, const std::vector<std::string>& names);

// `did you mean "x"?` or "".
std::string DidYouMean(const std::string& name, const std::vector<std::string>& names);

}  // namespace unipool
