// The result of an evaluation on text.
#pragma once

#include <optional>

namespace unipool {

struct Validation {
  double loss;                          // mean, in nats per token
  std::optional<double> bits_per_byte;  // absent if the bytes of the tokens are not known
  double perplexity() const;            // exp(loss), at most exp(20)
};

}  // namespace unipool
