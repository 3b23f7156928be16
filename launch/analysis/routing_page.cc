#include "launch/analysis/routing_page.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace unipool {
namespace {

constexpr char kStyle[] =
    "body{margin:0;background:#fff;color:#1c2330;font:15px/1.5 system-ui,sans-serif}"
    "main{max-width:1120px;margin:0 auto;padding:28px 24px 48px}"
    "h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 4px}"
    "p{margin:4px 0 10px;color:#4a5568;max-width:80ch}"
    ".facts{color:#4a5568}.facts b{color:#1c2330;font-weight:600}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:12px;"
    "margin:18px 0 0}.card{border:1px solid #dfe4ec;border-radius:8px;padding:10px 14px}"
    ".card div:first-child{font-size:22px;font-weight:600}"
    ".card div:last-child{font-size:13px;color:#4a5568}"
    "svg{width:100%;min-width:760px;height:auto;display:block}"
    "svg text{font:11px system-ui,sans-serif;fill:#4a5568}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}"
    "th,td{padding:4px 0 4px 22px;text-align:right;border-bottom:1px solid #e6eaf0;"
    "white-space:nowrap}th{font-weight:600;color:#4a5568}#at{min-height:1.5em}";

// Prints the number of the cell under the pointer.
constexpr char kScript[] =
    "const at=document.getElementById('at');document.querySelectorAll('svg.map').forEach(s=>{"
    "const g=s.dataset,o=g.order.split(',');s.addEventListener('mousemove',e=>{"
    "const p=new DOMPoint(e.clientX,e.clientY).matrixTransform(s.getScreenCTM().inverse());"
    "const c=Math.floor((p.x-g.x)/g.w),l=Math.floor((p.y-g.y)/g.h);"
    "if(c<0||l<0||c>=o.length||l>=N.length)return;const n=N[l][o[c]],t=N[l].reduce((a,b)=>a+b,0);"
    "at.textContent='layer '+l+', expert '+o[c]+': '+n.toLocaleString('en')+' routes, '"
    "+(100*n/Math.max(t,1)).toFixed(2)+' % of the layer';});});";

// Width of a picture, and its left, right and top margins.
constexpr double kWidth = 1072, kLeft = 62, kRight = 120;
constexpr double kTop = 8;
constexpr int kShades = 48;

// From light to dark in even steps of lightness.
struct Color {
  double red, green, blue;
};
constexpr Color kScale[] = {{237, 243, 250}, {190, 214, 236}, {127, 178, 217}, {70, 133, 190},
                            {33, 87, 148},   {24, 48, 100},   {12, 20, 52}};

std::string ShadeColor(double place) {
  const double at = std::clamp(place, 0.0, 1.0) * (std::size(kScale) - 1);
  const size_t below = std::min<size_t>(static_cast<size_t>(at), std::size(kScale) - 2);
  const double part = at - static_cast<double>(below);
  const auto mix = [part](double a, double b) { return static_cast<int>(a + part * (b - a)); };
  const Color &a = kScale[below], &b = kScale[below + 1];
  return absl::StrFormat("#%02x%02x%02x", mix(a.red, b.red), mix(a.green, b.green),
                         mix(a.blue, b.blue));
}

// Maps frequencies to shades on a logarithmic scale of multiples of the uniform frequency.
class Shades {
 public:
  Shades(double uniform, double max)
      : uniform_(uniform), max_(std::max(4.0, std::exp2(std::ceil(std::log2(max / uniform))))) {}

  // Multiples at the ends of the scale.
  double min_multiple() const { return 0.25; }
  double max_multiple() const { return max_; }
  // The shade, 0 to kShades - 1; -1 for frequency 0.
  int Of(double frequency) const {
    if (frequency == 0) return -1;
    return static_cast<int>(ShadePosition(frequency / uniform_) * (kShades - 1) + 0.5);
  }
  double ShadePosition(double multiple) const {
    return std::clamp(std::log2(multiple / min_multiple()) / std::log2(max_ / min_multiple()), 0.0,
                      1.0);
  }

 private:
  double uniform_;
  double max_;
};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Text(double x, double y, const std::string& text, const std::string& anchor = "start") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", x, y, anchor,
                         Escape(text));
}

std::string Rect(double x, double y, double width, double height, const std::string& color) {
  return absl::StrFormat("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"/>",
                         x, y, width, height, color);
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& style) {
  return absl::StrFormat("<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\" %s/>", x1, y1, x2,
                         y2, style);
}

// At most `max` multiples of a power of two from 0 below `end`.
std::vector<int> Ticks(int end, int max) {
  int step = 1;
  for (const int factor : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
    step = factor;
    if ((end + step - 1) / step <= max) break;
  }
  std::vector<int> ticks;
  for (int tick = 0; tick < end; tick += step) ticks.push_back(tick);
  return ticks;
}

// The geometry of the cells of a picture.
struct Grid {
  int layers;
  int columns;
  double cell_width;
  double cell_height;
  double bottom() const { return kTop + layers * cell_height; }
  double right() const { return kLeft + columns * cell_width; }
};

Grid MakeGrid(const RouteCounts& counts) {
  return {.layers = counts.layers,
          .columns = counts.columns(),
          .cell_width = (kWidth - kLeft - kRight) / counts.columns(),
          .cell_height = std::clamp(420.0 / counts.layers, 9.0, 26.0)};
}

// One path per shade keeps the page small: 48 x 384 cells need 48 elements.
std::string Cells(const RoutingReport& report, const Grid& grid, const std::vector<int>& order,
                  const Shades& shades) {
  std::vector<std::string> paths(kShades);
  for (int layer = 0; layer < grid.layers; ++layer) {
    for (int place = 0; place < grid.columns; ++place) {
      const int shade = shades.Of(report.frequencies[layer * grid.columns + order[place]]);
      if (shade >= 0) absl::StrAppend(&paths[shade], "M", place, " ", layer, "h1v1h-1z");
    }
  }
  std::string svg = absl::StrFormat(
      "<g transform=\"translate(%.2f %.2f) scale(%.5f %.5f)\" shape-rendering=\"crispEdges\">",
      kLeft, kTop, grid.cell_width, grid.cell_height);
  for (int shade = 0; shade < kShades; ++shade) {
    if (paths[shade].empty()) continue;
    absl::StrAppend(&svg, "<path fill=\"", ShadeColor(shade / (kShades - 1.0)), "\" d=\"",
                    paths[shade], "\"/>");
  }
  return absl::StrCat(svg, "</g>");
}

std::string LayerAxis(const Grid& grid) {
  std::string svg;
  for (const int layer : Ticks(grid.layers, 24)) {
    absl::StrAppend(&svg, Text(kLeft - 6, kTop + (layer + 0.5) * grid.cell_height + 4,
                               absl::StrCat(layer), "end"));
  }
  return absl::StrCat(svg, "<text transform=\"translate(14 ", (kTop + grid.bottom()) / 2,
                      ") rotate(-90)\" text-anchor=\"middle\">layer</text>");
}

std::string ExpertAxis(const Grid& grid, double y) {
  std::string svg;
  for (const int column : Ticks(grid.columns, 16)) {
    const double x = kLeft + (column + 0.5) * grid.cell_width;
    absl::StrAppend(&svg, Line(x, y, x, y + 4, "stroke=\"#8a94a6\""),
                    Text(x, y + 16, absl::StrCat(column), "middle"));
  }
  return absl::StrCat(svg, Text((kLeft + grid.right()) / 2, y + 32, "expert", "middle"));
}

// Bars of the layers' entropies to the right of their rows.
std::string EntropyBars(const RouteCounts& counts, const RoutingReport& report, const Grid& grid) {
  const double max_bits = std::max(1.0, std::log2(counts.experts));
  const double left = grid.right() + 12, width = 64;
  std::string svg;
  for (int layer = 0; layer < grid.layers; ++layer) {
    const double y = kTop + (layer + 0.15) * grid.cell_height, height = grid.cell_height * 0.7;
    const double share = report.entropy_bits[layer] / max_bits;
    absl::StrAppend(&svg, Rect(left, y, width, height, "#eef1f5"),
                    Rect(left, y, width * share, height, "#d98b3a"));
  }
  for (const int layer : Ticks(grid.layers, 24)) {
    absl::StrAppend(&svg, Text(left + width + 5, kTop + (layer + 0.5) * grid.cell_height + 4,
                               absl::StrFormat("%.2f", report.entropy_bits[layer])));
  }
  return absl::StrCat(svg, Text(kWidth - 2, grid.bottom() + 16,
                                absl::StrFormat("entropy, maximum %.2f bits", max_bits), "end"));
}

// Bars of the aggregate, each under the column of its expert, and a line at the uniform share.
std::string AggregateBars(const RoutingReport& report, const Grid& grid,
                          const std::vector<int>& order, double top) {
  constexpr double kHeight = 130;
  const double uniform = 1.0 / grid.columns;
  const double max_share = *std::max_element(report.aggregate.begin(), report.aggregate.end());
  const double scale = kHeight / (1.08 * std::max(max_share, 1.5 * uniform)), base = top + kHeight;
  std::string path;
  for (int place = 0; place < grid.columns; ++place) {
    const double gap = grid.cell_width > 4 ? 1 : 0;
    absl::StrAppendFormat(&path, "M%.2f %.2fV%.2fh%.2fV%.2fz", kLeft + place * grid.cell_width,
                          base, base - scale * report.aggregate[order[place]],
                          grid.cell_width - gap, base);
  }
  const double line = base - scale * uniform;
  return absl::StrCat("<path fill=\"#2e6aa6\" d=\"", path, "\"/>",
                      Line(kLeft, base, grid.right(), base, "stroke=\"#8a94a6\""),
                      Line(kLeft, line, grid.right(), line,
                           "stroke=\"#c2410c\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\""),
                      Text(grid.right() + 12, line + 4,
                           absl::StrFormat("1/%d = %.3f %%", grid.columns, 100 * uniform)),
                      Text(kLeft - 6, base - scale * max_share + 4,
                           absl::StrFormat("%.2f %%", 100 * max_share), "end"),
                      Text(kLeft - 6, base + 4, "0", "end"));
}

std::string Legend(const Shades& shades, double y) {
  constexpr double kLegendWidth = 300;
  std::string svg =
      Text(kLeft, y + 11, "share of the layer's routes, in multiples of the uniform share:");
  const double left = kLeft + 350;
  for (int shade = 0; shade < kShades; ++shade) {
    absl::StrAppend(&svg,
                    Rect(left + shade * kLegendWidth / kShades, y, kLegendWidth / kShades + 0.5, 12,
                         ShadeColor(shade / (kShades - 1.0))));
  }
  const int octaves =
      static_cast<int>(std::lround(std::log2(shades.max_multiple() / shades.min_multiple())));
  const int step = (octaves + 5) / 6;
  for (int octave = 0; octave <= octaves; octave += step) {
    const double multiple = shades.min_multiple() * std::exp2(octave);
    absl::StrAppend(&svg, Text(left + kLegendWidth * octave / octaves, y + 26,
                               absl::StrFormat("%g", multiple), "middle"));
  }
  return absl::StrCat(svg, Rect(left + kLegendWidth + 24, y, 14, 12, "#ffffff"), "<rect x=\"",
                      left + kLegendWidth + 24, "\" y=\"", y,
                      "\" width=\"14\" height=\"12\" fill=\"none\" stroke=\"#8a94a6\"/>",
                      Text(left + kLegendWidth + 44, y + 11, "none"));
}

std::string Picture(const RouteCounts& counts, const RoutingReport& report,
                    const std::vector<int>& order, bool in_order) {
  const Grid grid = MakeGrid(counts);
  const double uniform = 1.0 / counts.experts;
  const Shades shades(uniform,
                      *std::max_element(report.frequencies.begin(), report.frequencies.end()));
  const double bars = grid.bottom() + 40, axis = bars + 130;
  const double legend = axis + (in_order ? 46 : 14);
  std::string svg = absl::StrFormat(
      "<svg class=\"map\" role=\"img\" aria-label=\"heatmap\" viewBox=\"0 0 %.0f %.0f\" "
      "data-x=\"%.2f\" data-y=\"%.2f\" data-w=\"%.5f\" data-h=\"%.5f\" data-order=\"%s\">",
      kWidth, legend + 32, kLeft, kTop, grid.cell_width, grid.cell_height,
      absl::StrJoin(order, ","));
  absl::StrAppend(
      &svg, Cells(report, grid, order, shades),
      absl::StrFormat("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"none\" "
                      "stroke=\"#8a94a6\"/>",
                      kLeft, kTop, grid.right() - kLeft, grid.bottom() - kTop),
      LayerAxis(grid), EntropyBars(counts, report, grid), AggregateBars(report, grid, order, bars),
      in_order ? ExpertAxis(grid, axis) : "", Legend(shades, legend));
  return absl::StrCat("<div class=\"wide\">", svg, "</svg></div>\n");
}

// Columns ordered by the layer that uses them most, then by decreasing use.
std::vector<int> OrderByLayer(const RouteCounts& counts) {
  std::vector<std::pair<int, int64_t>> key;
  for (int column = 0; column < counts.columns(); ++column) {
    int best = 0;
    for (int layer = 1; layer < counts.layers; ++layer) {
      if (counts.row(layer)[column] > counts.row(best)[column]) best = layer;
    }
    const int64_t max_count = counts.row(best)[column];
    key.emplace_back(max_count == 0 ? counts.layers : best, -max_count);
  }
  std::vector<int> order(counts.columns());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&key](int a, int b) { return key[a] < key[b]; });
  return order;
}

std::string Card(const std::string& number, const std::string& name) {
  return absl::StrCat("<div class=\"card\"><div>", number, "</div><div>", name, "</div></div>");
}

std::string Cards(const RouteCounts& counts, const RoutingReport& report) {
  const double mean_bits =
      std::accumulate(report.entropy_bits.begin(), report.entropy_bits.end(), 0.0) / counts.layers;
  const double mean_top16 =
      std::accumulate(report.top16_coverage.begin(), report.top16_coverage.end(), 0.0) /
      counts.layers;
  const double max_share = *std::max_element(report.aggregate.begin(), report.aggregate.end());
  return absl::StrCat(
      "<div class=\"cards\">",
      Card(absl::StrFormat("%.2f bits", mean_bits),
           absl::StrFormat("mean entropy of a layer; maximum %.2f", std::log2(counts.experts))),
      Card(absl::StrFormat("%.2f bits", report.aggregate_entropy_bits),
           absl::StrFormat("entropy of the aggregate; maximum %.2f", std::log2(counts.columns()))),
      Card(absl::StrFormat("%.1f %%", 100 * mean_top16),
           absl::StrFormat("of a layer's routes go to its top %d", std::min(16, counts.experts))),
      Card(absl::StrFormat("%.3f", report.mean_jaccard),
           "mean Jaccard index of two layers' top 16"),
      Card(absl::StrFormat("%.2f &times;", max_share * counts.columns()),
           "load of the busiest expert relative to the uniform share"),
      Card(absl::StrFormat("%d of %d", report.unused_experts, counts.columns()),
           "experts that no layer uses"),
      "</div>\n");
}

std::string TopSetTable(const RoutingReport& report) {
  std::string table =
      "<div class=\"wide\"><table><tr><th>k</th><th>union</th><th>of all experts</th>"
      "<th>saturation</th><th>coverage</th><th>mean</th><th>minimum</th><th>median</th>"
      "<th>maximum</th></tr>\n";
  for (const TopSets& sets : report.top_sets) {
    absl::StrAppendFormat(&table,
                          "<tr><td>%d</td><td>%d</td><td>%.1f %%</td><td>%.1f %%</td><td>%.1f "
                          "%%</td><td>%.1f %%</td><td>%.1f %%</td><td>%.1f %%</td><td>%.1f "
                          "%%</td></tr>\n",
                          sets.k, sets.union_size, 100 * sets.union_share, 100 * sets.saturation,
                          100 * sets.weighted_coverage, 100 * sets.mean_coverage,
                          100 * sets.least_coverage, 100 * sets.median_coverage,
                          100 * sets.max_coverage);
  }
  return table + "</table></div>\n";
}

std::string CountsForScript(const RouteCounts& counts) {
  std::vector<std::string> rows;
  for (int layer = 0; layer < counts.layers; ++layer) {
    rows.push_back(absl::StrCat("[", absl::StrJoin(counts.row(layer), ","), "]"));
  }
  return absl::StrCat("const N=[", absl::StrJoin(rows, ","), "];");
}

}  // namespace

std::string RoutingPage(const RouteCounts& counts, const RoutingReport& report,
                        const std::vector<PageFact>& facts) {
  std::vector<std::string> items;
  for (const PageFact& fact : facts) {
    items.push_back(absl::StrCat("<b>", Escape(fact.name), "</b> ", Escape(fact.value)));
  }
  std::vector<int> order(counts.columns());
  std::iota(order.begin(), order.end(), 0);
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>Expert utilization</title><style>",
      kStyle, "</style></head><body><main>\n<h1>Expert utilization</h1>\n<div class=\"facts\">",
      absl::StrJoin(items, " &middot; "), "</div>\n", Cards(counts, report),
      "<h2>Which experts each layer uses</h2>\n<p>Top: each layer's share of tokens by expert. "
      "Right: entropy of the layer's shares. Below: all layers together; the dashed line is the "
      "uniform share.</p>\n<div id=\"at\"></div>\n",
      Picture(counts, report, order, true),
      "<h2>The same with experts ordered by the layer that uses them most</h2>\n"
      "<p>Experts that one layer uses form blocks along the diagonal; experts that several layers "
      "share form columns.</p>\n",
      Picture(counts, report, OrderByLayer(counts), false),
      "<h2>Each layer's k most used experts</h2>\n<p>Union: experts in at least one layer's set. "
      "Saturation: the union divided by its largest possible size. Coverage: the share of routes "
      "that go to the sets, over all layers and per layer.</p>\n",
      TopSetTable(report), "<script>", CountsForScript(counts), kScript,
      "</script>\n</main></body></html>\n");
}

}  // namespace unipool
