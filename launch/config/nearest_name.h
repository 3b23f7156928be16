// Suggestions for mistyped names of fields, enum values and flags.
#pragma once

#include <string>
#include <vector>

namespace unipool {

// The one of `names` with the smallest edit distance to `name`; "" if none is close.
std::string NearestName(const std::string& name, const std::vector<std::string>& names);

// `did you mean "x"?`, where x is the nearest name; "" if there is none.
std::string DidYouMean(const std::string& name, const std::vector<std::string>& names);

}  // namespace unipool
