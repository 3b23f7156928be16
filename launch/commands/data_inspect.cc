#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "data/indexed_dataset.h"
#include "data/tokenizer.h"
#include "launch/commands/data_views.h"
#include "launch/commands/run_flags.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {

CommandSpec InspectSpec() {
  return {.flags = {{"json", "", "prints one JSON object instead of text"},
                    {"vocab", "FILE",
                     "vocab.json of a GPT-2 tokenizer, with --merges: prints the text of the first "
                     "ids"},
                    {"merges", "FILE", "merges.txt of that tokenizer"},
                    {"scan", "",
                     "reads every token and prints the range of ids and the last ids "
                     "of documents"},
                    HelpFlag()},
          .arguments = {"PREFIX"}};
}

namespace {

constexpr int64_t kShownTokens = 200;
constexpr int kBarWidth = 40;

struct Scan {
  int64_t min_id = std::numeric_limits<int64_t>::max();
  int64_t max_id = std::numeric_limits<int64_t>::min();
  int64_t last_id = 0;       // last id of the last sequence that is not empty
  int64_t with_last_id = 0;  // number of sequences that end with it
};

struct View {
  std::vector<int64_t> lengths;  // of the sequences, in tokens, sorted
  int64_t empty_sequences = 0;
  int64_t empty_documents = 0;     // documents without a sequence
  int64_t merged_documents = 0;    // documents of several sequences
  std::vector<int64_t> beginning;  // first ids of the first sequence that is not empty
  std::string text;                // of `beginning`; "" if the tokenizer lacks one of its ids
  std::optional<Scan> scan;
};

Scan ScanTokens(const IndexedDataset& dataset) {
  constexpr int64_t kBlock = 1 << 20;
  Scan scan;
  std::vector<int64_t> block(kBlock);
  for (int64_t begin = 0; begin < dataset.num_tokens(); begin += kBlock) {
    const auto ids =
        absl::MakeSpan(block).subspan(0, std::min(kBlock, dataset.num_tokens() - begin));
    dataset.Read(begin, ids);
    const auto [min_id, max_id] = std::minmax_element(ids.begin(), ids.end());
    scan.min_id = std::min(scan.min_id, *min_id);
    scan.max_id = std::max(scan.max_id, *max_id);
  }
  for (int64_t i = dataset.num_sequences(); i-- > 0;) {
    const int64_t end = dataset.SequenceStart(i + 1);
    if (end == dataset.SequenceStart(i)) continue;
    const int64_t id = dataset.IdAt(end - 1);
    if (scan.with_last_id == 0) scan.last_id = id;
    scan.with_last_id += id == scan.last_id;
  }
  return scan;
}

void ReadBeginning(const IndexedDataset& dataset, const Tokenizer& tokenizer, View* view) {
  int64_t i = 0;
  while (dataset.SequenceStart(i + 1) == dataset.SequenceStart(i)) ++i;
  const int64_t begin = dataset.SequenceStart(i);
  view->beginning.resize(std::min(dataset.SequenceStart(i + 1) - begin, kShownTokens));
  dataset.Read(begin, absl::MakeSpan(view->beginning));
  const bool known = std::all_of(view->beginning.begin(), view->beginning.end(),
                                 [&](int64_t id) { return id >= 0 && id < tokenizer.vocab(); });
  if (known)
    view->text =
        tokenizer.Decode(std::vector<int32_t>(view->beginning.begin(), view->beginning.end()));
}

View Look(const IndexedDataset& dataset, const Tokenizer& tokenizer, bool scan) {
  View view;
  view.lengths.resize(dataset.num_sequences());
  for (int64_t i = 0; i < dataset.num_sequences(); ++i) {
    view.lengths[i] = dataset.SequenceStart(i + 1) - dataset.SequenceStart(i);
  }
  for (int64_t d = 0; d < dataset.num_documents(); ++d) {
    const int64_t sequences = dataset.DocumentStart(d + 1) - dataset.DocumentStart(d);
    view.empty_documents += sequences == 0;
    view.merged_documents += sequences > 1;
  }
  std::sort(view.lengths.begin(), view.lengths.end());
  view.empty_sequences = std::count(view.lengths.begin(), view.lengths.end(), 0);
  if (dataset.num_tokens() > 0) ReadBeginning(dataset, tokenizer, &view);
  if (scan && dataset.num_tokens() > 0) view.scan = ScanTokens(dataset);
  return view;
}

int64_t Quantile(const View& view, int64_t percent) {
  return view.lengths[(static_cast<int64_t>(view.lengths.size()) - 1) * percent / 100];
}

// Number of sequences with a length in [min_length, max_length]: [0], [1], [2, 3], [4, 7], ...
struct Bin {
  int64_t min_length;
  int64_t max_length;
  int64_t sequences;
};

std::vector<Bin> Histogram(const View& view) {
  std::vector<Bin> bins;
  for (const int64_t length : view.lengths) {  // sorted
    if (bins.empty() || length > bins.back().max_length) {
      const auto min = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(length)));
      bins.push_back({.min_length = min, .max_length = std::max(2 * min - 1, min), .sequences = 0});
    }
    ++bins.back().sequences;
  }
  return bins;
}

std::string HistogramText(const View& view) {
  std::string text;
  int64_t highest = 1;
  const std::vector<Bin> bins = Histogram(view);
  for (const Bin& bin : bins) highest = std::max(highest, bin.sequences);
  for (const Bin& bin : bins) {
    const int64_t width = (bin.sequences * kBarWidth + highest - 1) / highest;
    absl::StrAppendFormat(&text, "    %8d to %-8d %10d %s\n", bin.min_length, bin.max_length,
                          bin.sequences, std::string(width, '#'));
  }
  return text;
}

void PrintText(const IndexedDataset& dataset, const View& view) {
  absl::PrintF("%s\n  documents  %d (%d sequences)\n  tokens     %d\n  ids        %s, %d bytes\n",
               dataset.prefix(), dataset.num_documents(), dataset.num_sequences(),
               dataset.num_tokens(), dataset.token_type(),
               dataset.num_tokens() * dataset.token_bytes());
  if (!view.lengths.empty()) {
    absl::PrintF("  lengths    minimum %d, 10 %% %d, median %d, 90 %% %d, maximum %d\n%s",
                 Quantile(view, 0), Quantile(view, 10), Quantile(view, 50), Quantile(view, 90),
                 Quantile(view, 100), HistogramText(view));
  }
  absl::PrintF("  beginning  %s\n",
               view.text.empty() ? absl::StrCat("ids ", absl::StrJoin(view.beginning, " "))
                                 : absl::StrCat("\"", absl::Utf8SafeCEscape(view.text), "\""));
  if (view.scan.has_value()) {
    absl::PrintF("  id range   %d to %d; %d sequences end with %d\n", view.scan->min_id,
                 view.scan->max_id, view.scan->with_last_id, view.scan->last_id);
  }
  absl::PrintF(
      "  checks     sequences tile the .bin; %d documents without a sequence, %d of several, %d "
      "empty sequences\n",
      view.empty_documents, view.merged_documents, view.empty_sequences);
}

void PrintJson(const IndexedDataset& dataset, const View& view) {
  Json json = {{"prefix", dataset.prefix()},
               {"dtype", dataset.token_type()},
               {"documents", dataset.num_documents()},
               {"sequences", dataset.num_sequences()},
               {"tokens", dataset.num_tokens()},
               {"bin_bytes", dataset.num_tokens() * dataset.token_bytes()},
               {"idx_xxh3_128", dataset.IndexHash()},
               {"documents_without_sequence", view.empty_documents},
               {"documents_of_several_sequences", view.merged_documents},
               {"empty_sequences", view.empty_sequences}};
  if (!view.lengths.empty()) {
    json["lengths"] = Json{{"least", Quantile(view, 0)},
                           {"percent_10", Quantile(view, 10)},
                           {"median", Quantile(view, 50)},
                           {"percent_90", Quantile(view, 90)},
                           {"most", Quantile(view, 100)}};
  }
  Json histogram = Json::Array();
  for (const Bin& bin : Histogram(view)) {
    histogram.Append(
        {{"least", bin.min_length}, {"most", bin.max_length}, {"sequences", bin.sequences}});
  }
  json["histogram"] = histogram;
  json["beginning"] = Json{{"ids", view.beginning}};
  if (!view.text.empty()) json["beginning"]["text"] = view.text;
  if (view.scan.has_value()) {
    json["scan"] = Json{{"least_id", view.scan->min_id},
                        {"most_id", view.scan->max_id},
                        {"last_id", view.scan->last_id},
                        {"sequences_with_last_id", view.scan->with_last_id}};
  }
  absl::PrintF("%s\n", json.Dump());
}

// The tokenizer of --vocab and --merges; without them the byte tokenizer.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerOf(const CommandLine& line) {
  if (line.Has("vocab") != line.Has("merges")) {
    return absl::InvalidArgumentError("--vocab and --merges belong together; give both or none");
  }
  if (!line.Has("vocab")) return CreateByteTokenizer();
  return OpenGpt2Tokenizer(line.Value("vocab", ""), line.Value("merges", ""));
}

}  // namespace

absl::Status InspectData(const CommandLine& line) {
  ASSIGN_OR_RETURN(const auto dataset, IndexedDataset::Open(line.arguments()[0]));
  ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(line));
  const View view = Look(*dataset, *tokenizer, line.Has("scan"));
  if (line.Has("json")) {
    PrintJson(*dataset, view);
  } else {
    PrintText(*dataset, view);
  }
  return absl::OkStatus();
}

}  // namespace unipool
