// Numbers that occur in JSON texts but that the JSON library refuses: numbers beyond the range of a
// double, which the grammar allows, and NaN, Infinity and -Infinity, as Python's json module writes
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace unipool {

struct SpecialNumber {
  int64_t number_id;  // counts the numbers of the text from 0
  double value;       // NaN or an infinity
};

// A text in which a zero of the same length replaces each special number, so that the positions of
// all other characters are unchanged. Both members are empty if there is no special number.
struct ReplacedNumbers {
  std::string text;
  std::vector<SpecialNumber> numbers;
};

ReplacedNumbers ReplaceSpecialNumbers(absl::string_view text);

}  // namespace unipool
