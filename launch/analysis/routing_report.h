// Statistics of route counts n[layer, expert] that show how layers share experts
// (model/method.md#distinct-experts, model/method.md#routing-diagnostics). Pure arithmetic.
//
// A column is an expert; columns list the experts of all pools, pool after pool. The same code thus
// handles one shared pool, several pools, and vanilla MoE, where no two layers share an expert.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace unipool {

// Counts of tokens that each layer routes to each expert.
struct RouteCounts {
  int layers = 0;
  int pools = 0;
  int experts = 0;  // of each pool
  int top_k = 0;
  std::vector<int64_t> counts = {};  // [layers, pools * experts]

  int columns() const { return pools * experts; }
  // The first column of the layer's pool.
  int first_column(int layer) const { return layer / (layers / pools) * experts; }
  absl::Span<const int64_t> row(int layer) const;  // [columns()]
  absl::Span<const int64_t> own(int layer) const;  // [experts], the columns of the layer's pool
  int64_t total(int layer) const;                  // sum of the row
};

// Columns of the k most used experts of the layer's pool, most used first; on ties the lowest
// first. At most `experts` of them.
std::vector<int> TopExperts(const RouteCounts& counts, int layer, int k);

// Statistics of the layers' sets of k most used experts.
struct TopSets {
  int k = 0;
  int64_t union_size = 0;        // experts in at least one layer's set
  double union_share = 0;        // union_size / columns
  double saturation = 0;         // union_size / min(k * layers, columns)
  double weighted_coverage = 0;  // share of the routes of all layers that go to the layer's set
  double mean_coverage = 0;      // that share per layer: mean, minimum, median and maximum
  double least_coverage = 0;
  double median_coverage = 0;  // for an even number of layers, the mean of the middle two
  double max_coverage = 0;
};

struct RoutingReport {
  std::vector<double> frequencies;   // [layers, columns] share of the layer's routes
  std::vector<double> aggregate;     // [columns] share of all layers' routes
  std::vector<double> entropy_bits;  // [layers] -sum f log2(max(f, 1e-12)) of a layer's frequencies
  double aggregate_entropy_bits = 0;
  std::vector<double> top16_coverage;  // [layers] share of routes to the min(16, experts) most used
  std::vector<double> jaccard;         // [layers, layers] |A and B| / |A or B| of those sets
  double mean_jaccard = 0;             // over pairs of different layers; 0 for a single layer
  int64_t unused_experts = 0;          // experts without any route
  std::vector<TopSets> top_sets;       // for k = 1, 2, 3, 5, 8, 10, 16, 20, 32, 48, 64 <= experts
};

RoutingReport ReportRouting(const RouteCounts& counts);

// Expected number of distinct experts of a token if each layer draws top_k experts of its pool
// uniformly: pools * experts * (1 - (1 - top_k / experts)^(layers / pools)).
double DistinctExpertsByChance(int layers, int pools, int experts, int top_k);

}  // namespace unipool
