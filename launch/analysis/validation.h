// The result of an evaluation on text.
#pragma once

#include <optional>

namespace unipool {

struct Validation {
  double loss;                          // nats a token
  std::optional<double> bits_per_byte;  // of the text behind the tokens, where that is known
  double perplexity() const;
};

}  // namespace unipool
