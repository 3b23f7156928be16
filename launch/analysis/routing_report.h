// What counts of routes n[layer, expert] say about how layers share experts: the paper's
// utilization figure and the diagnostics of its code (model/method.md#distinct-experts,
// model/method.md#routing-diagnostics). Pure arithmetic.
//
// Columns are the experts of all pools, pool after pool, so that one rule serves a shared pool,
// groups and vanilla MoE, where layers have no expert in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace unipool {

struct RouteCounts {
  int layers = 0;
  int pools = 0;
  int experts = 0;  // of each pool
  int top_k = 0;
  std::vector<int64_t> counts = {};  // [layers, pools * experts]

  int columns() const { return pools * experts; }
  // The first column of the layer's own experts.
  int first_column(int layer) const { return layer / (layers / pools) * experts; }
  absl::Span<const int64_t> row(int layer) const;
  absl::Span<const int64_t> own(int layer) const;  // of the layer's pool only
  int64_t total(int layer) const;
};

// The layer's k most used experts as columns, most used first; of equal ones the lowest.
std::vector<int> TopExperts(const RouteCounts& counts, int layer, int k);

// Of the layers' top-k sets.
struct TopSets {
  int k = 0;
  int64_t union_size = 0;        // experts in any layer's set
  double union_share = 0;        // of all experts
  double saturation = 0;         // of the most experts that k a layer could be
  double weighted_coverage = 0;  // share of routes that go to the sets, all layers together
  double mean_coverage = 0;      // the same by layer: mean, least, median, most
  double least_coverage = 0;
  double median_coverage = 0;  // of an even number of layers the mean of the middle two
  double max_coverage = 0;
};

struct RoutingReport {
  std::vector<double> frequencies;   // [layers, columns]: shares of the layer's routes
  std::vector<double> aggregate;     // [columns]: shares of all layers' routes
  std::vector<double> entropy_bits;  // by layer, of its frequencies, each at least 1e-12
  double aggregate_entropy_bits = 0;
  std::vector<double> top16_coverage;  // by layer; of all its experts where it has fewer
  std::vector<double> jaccard;         // [layers, layers], of the top-16 sets
  double mean_jaccard = 0;             // over pairs of different layers; 0 for a single layer
  int64_t unused_experts = 0;          // that no layer chose once
  std::vector<TopSets> top_sets;       // for each k of G.4 that is not above the pool's experts
};

RoutingReport ReportRouting(const RouteCounts& counts);

// Distinct experts that a token meets when each layer draws top_k of its pool uniformly: for one
// pool of M experts and top-1, M (1 - (1 - 1/M)^L).
double DistinctExpertsByChance(int layers, int pools, int experts, int top_k);

}  // namespace unipool
