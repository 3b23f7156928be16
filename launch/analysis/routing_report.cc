#include "launch/analysis/routing_report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/median.h"

namespace unipool {
namespace {

constexpr int kCoverageSet = 16;
constexpr int kSetSizes[] = {1, 2, 3, 5, 8, 10, 16, 20, 32, 48, 64};

double Share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double EntropyBits(absl::Span<const double> shares) {
  double bits = 0;
  for (const double share : shares) bits -= share * std::log2(std::max(share, 1e-12));
  return bits;
}

double Mean(absl::Span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

int64_t RoutesTo(const RouteCounts& counts, int layer, const std::vector<int>& columns) {
  int64_t routes = 0;
  for (const int column : columns) routes += counts.row(layer)[column];
  return routes;
}

TopSets ReportTopSets(const RouteCounts& counts, int k) {
  std::vector<char> is_in_union(counts.columns(), 0);
  std::vector<double> coverages;
  int64_t covered = 0, total = 0;
  for (int layer = 0; layer < counts.layers; ++layer) {
    const std::vector<int> set = TopExperts(counts, layer, k);
    for (const int column : set) is_in_union[column] = 1;
    const int64_t routes = RoutesTo(counts, layer, set);
    coverages.push_back(Share(routes, counts.total(layer)));
    covered += routes;
    total += counts.total(layer);
  }
  const int64_t size = std::count(is_in_union.begin(), is_in_union.end(), 1);
  const auto [min, max] = std::minmax_element(coverages.begin(), coverages.end());
  return {.k = k,
          .union_size = size,
          .union_share = Share(size, counts.columns()),
          .saturation = Share(size, std::min(k * counts.layers, counts.columns())),
          .weighted_coverage = Share(covered, total),
          .mean_coverage = Mean(coverages),
          .least_coverage = *min,
          .median_coverage = Median(coverages),
          .max_coverage = *max};
}

double Jaccard(std::vector<int> a, std::vector<int> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::vector<int> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(a.size() + b.size() - both.size());
}

void CompareLayers(const RouteCounts& counts, RoutingReport* report) {
  const int layers = counts.layers;
  std::vector<std::vector<int>> sets;
  for (int layer = 0; layer < layers; ++layer) {
    sets.push_back(TopExperts(counts, layer, std::min(kCoverageSet, counts.experts)));
    report->top16_coverage.push_back(
        Share(RoutesTo(counts, layer, sets.back()), counts.total(layer)));
  }
  report->jaccard.resize(static_cast<size_t>(layers) * layers);
  for (int a = 0; a < layers; ++a) {
    for (int b = 0; b < layers; ++b) {
      report->jaccard[a * layers + b] = Jaccard(sets[a], sets[b]);
      if (a != b) report->mean_jaccard += report->jaccard[a * layers + b];
    }
  }
  if (layers > 1) report->mean_jaccard /= static_cast<double>(layers) * (layers - 1);
}

}  // namespace

absl::Span<const int64_t> RouteCounts::row(int layer) const {
  return absl::MakeConstSpan(counts).subspan(static_cast<size_t>(layer) * columns(), columns());
}

absl::Span<const int64_t> RouteCounts::own(int layer) const {
  return row(layer).subspan(first_column(layer), experts);
}

int64_t RouteCounts::total(int layer) const {
  return std::accumulate(row(layer).begin(), row(layer).end(), int64_t{0});
}

std::vector<int> TopExperts(const RouteCounts& counts, int layer, int k) {
  std::vector<int> columns(counts.experts);
  std::iota(columns.begin(), columns.end(), counts.first_column(layer));
  const auto row = counts.row(layer);
  std::stable_sort(columns.begin(), columns.end(),
                   [&row](int a, int b) { return row[a] > row[b]; });
  columns.resize(std::min(k, counts.experts));
  return columns;
}

RoutingReport ReportRouting(const RouteCounts& counts) {
  RoutingReport report;
  std::vector<int64_t> sums(counts.columns(), 0);
  int64_t total = 0;
  for (int layer = 0; layer < counts.layers; ++layer) {
    const auto row = counts.row(layer);
    const int64_t routes = counts.total(layer);
    for (int column = 0; column < counts.columns(); ++column) {
      report.frequencies.push_back(Share(row[column], routes));
      sums[column] += row[column];
    }
    total += routes;
    report.entropy_bits.push_back(EntropyBits(
        absl::MakeConstSpan(report.frequencies).last(static_cast<size_t>(counts.columns()))));
  }
  for (const int64_t sum : sums) report.aggregate.push_back(Share(sum, total));
  report.aggregate_entropy_bits = EntropyBits(report.aggregate);
  report.unused_experts = std::count(sums.begin(), sums.end(), 0);
  CompareLayers(counts, &report);
  for (const int k : kSetSizes) {
    if (k <= counts.experts) report.top_sets.push_back(ReportTopSets(counts, k));
  }
  return report;
}

double DistinctExpertsByChance(int layers, int pools, int experts, int top_k) {
  const double missed = std::pow(1.0 - static_cast<double>(top_k) / experts, layers / pools);
  return pools * experts * (1.0 - missed);
}

}  // namespace unipool
