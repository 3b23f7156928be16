// One self-contained HTML page about how layers use experts: the heatmap of frequencies, the
// aggregate against the uniform line, entropies and coverages. Pictures are SVG inside the page;
// it loads nothing.
#pragma once

#include <string>
#include <vector>

#include "launch/analysis/routing_report.h"

namespace unipool {

// What the page says of where its numbers are from, as "name: value".
struct PageFact {
  std::string name;
  std::string value;
};

std::string RoutingPage(const RouteCounts& counts, const RoutingReport& report,
                        const std::vector<PageFact>& facts);

}  // namespace unipool
