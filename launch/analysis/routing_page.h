// Builds one self-contained HTML page that shows how layers use experts: a heatmap of frequencies,
// the aggregate over layers, entropies and coverages. Pictures are inline SVG; the page loads
// nothing.
#pragma once

#include <string>
#include <vector>

#include "launch/analysis/routing_report.h"

namespace unipool {

// A line of the page's heading about the origin of its numbers, for example step: 1000.
struct PageFact {
  std::string name;
  std::string value;
};

// Returns the HTML. `report` must be that of `counts`. Names and values are escaped.
std::string RoutingPage(const RouteCounts& counts, const RoutingReport& report,
                        const std::vector<PageFact>& facts);

}  // namespace unipool
