// The page about expert utilization is well-formed, self-contained and shows the given numbers.
#include "launch/analysis/routing_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/rng.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Counts of layers that prefer some experts, similar to those of a trained model.
RouteCounts SyntheticCounts(int layers, int pools, int experts) {
  RouteCounts counts{.layers = layers, .pools = pools, .experts = experts, .top_k = 1};
  counts.counts.resize(static_cast<size_t>(layers) * counts.columns());
  const Rng rng(7, StreamId("made-up counts"));
  for (int layer = 0; layer < layers; ++layer) {
    for (int e = 0; e < experts; ++e) {
      const double u = rng.Uniform(static_cast<uint64_t>(layer * experts + e));
      const int64_t routes = u > 0.9 ? 0 : static_cast<int64_t>(20 / (u * u + 1e-3));
      counts.counts[layer * counts.columns() + counts.first_column(layer) + e] = routes;
    }
  }
  return counts;
}

std::string Page(const RouteCounts& counts) {
  return RoutingPage(counts, ReportRouting(counts),
                     {{"checkpoint", "runs/<a & b>"}, {"step", "1000"}});
}

size_t Occurrences(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(RoutingPage, LoadsNothing) {
  const std::string page = Page(SyntheticCounts(12, 1, 96));
  for (const char* outside : {"http:", "https:", "src=", "href=", "url(", "@import", "<link"}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
}

TEST(RoutingPage, IsClosedAndEscaped) {
  const std::string page = Page(SyntheticCounts(12, 1, 96));
  EXPECT_TRUE(absl::StartsWith(page, "<!DOCTYPE html>"));
  EXPECT_TRUE(absl::EndsWith(page, "</html>\n"));
  EXPECT_THAT(page, HasSubstr("runs/&lt;a &amp; b&gt;"));
  for (const char* element : {"svg", "g", "table", "tr", "td", "div", "script", "main", "text"}) {
    const size_t opened = Occurrences(page, absl::StrCat("<", element, ">")) +
                          Occurrences(page, absl::StrCat("<", element, " "));
    EXPECT_EQ(opened, Occurrences(page, absl::StrCat("</", element, ">"))) << element;
  }
}

TEST(RoutingPage, EveryUsedCellIsDrawnOnceInEachPicture) {
  const RouteCounts counts = SyntheticCounts(12, 1, 96);
  const size_t used =
      counts.counts.size() - std::count(counts.counts.begin(), counts.counts.end(), 0);
  EXPECT_EQ(Occurrences(Page(counts), "h1v1h-1z"), 2 * used);
}

TEST(RoutingPage, StaysSmallForTheLargestPool) {
  EXPECT_LT(Page(SyntheticCounts(48, 1, 384)).size(), 1'500'000u);
}

TEST(RoutingPage, HandlesZeroRoutesAndPrivateExperts) {
  RouteCounts counts = SyntheticCounts(2, 2, 3);
  EXPECT_THAT(Page(counts), Not(HasSubstr("nan")));
  counts.counts.assign(counts.counts.size(), 0);
  const std::string page = Page(counts);
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, Not(HasSubstr("inf")));
}

// With UNIPOOL_PAGES=FOLDER the pages are written there, to view them in a browser.
TEST(RoutingPage, HasATitle) {
  const char* folder = std::getenv("UNIPOOL_PAGES");
  for (const auto& [layers, pools, experts] :
       {std::array{12, 1, 96}, std::array{48, 1, 384}, std::array{12, 12, 8}}) {
    const std::string page = Page(SyntheticCounts(layers, pools, experts));
    EXPECT_THAT(page, HasSubstr("Expert utilization"));
    if (folder == nullptr) continue;
    std::ofstream(absl::StrCat(folder, "/", layers, "x", pools, "x", experts, ".html")) << page;
  }
}

}  // namespace
}  // namespace unipool
