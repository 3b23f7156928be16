#include "launch/analysis/validation.h"

#include <cmath>

namespace unipool {

double Validation::perplexity() const { return loss > 20.0 ? std::exp(20.0) : std::exp(loss); }

}  // namespace unipool
