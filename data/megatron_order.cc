#include "data/megatron_order.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/numpy_random.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Number of int64 counts at the start of a payload: documents, then samples (data/README.md#cache).
constexpr int64_t kCounts = 2;

// The epochs needed for a part, and how they are shuffled.
struct Epochs {
  int64_t count;
  int64_t samples;        // of all epochs
  int64_t first_samples;  // samples shuffled together; the rest belong to a separate last epoch
  bool separate_last;     // the last epoch is shuffled separately
};

Epochs PlanEpochs(int64_t tokens, const MegatronPart& part) {
  const int64_t wanted_tokens = part.num_samples * part.sequence + 1;
  const int64_t count = std::max<int64_t>(1, (wanted_tokens + tokens - 1) / tokens);
  const auto samples_of = [&](int64_t epochs) { return (epochs * tokens - 1) / part.sequence; };
  Epochs plan{.count = count,
              .samples = samples_of(count),
              .first_samples = samples_of(count),
              .separate_last = false};
  if (count == 1) return plan;
  const int64_t before_last = samples_of(count - 1);
  const auto threshold = static_cast<int64_t>(0.80 * static_cast<double>(samples_of(1)));
  plan.separate_last = part.num_samples - before_last < threshold;
  if (plan.separate_last) plan.first_samples = before_last;
  return plan;
}

absl::Status CheckSizes(const IndexedDataset& dataset, const MegatronPart& part,
                        const Epochs& plan) {
  constexpr int64_t kMaxDocuments = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMaxSamples = std::numeric_limits<uint32_t>::max() - int64_t{1};
  const int64_t documents = part.range.end - part.range.begin;
  if (part.range.end <= kMaxDocuments && documents * plan.count <= kMaxDocuments &&
      plan.samples <= kMaxSamples) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(dataset.prefix(), ": ", plan.count, " epochs of ", documents, " sequences give ",
                   plan.samples, " samples; data.order = MEGATRON takes at most ", kMaxDocuments,
                   " sequences and ", kMaxSamples, " samples: use data.order = STATELESS"));
}

// Appends the sequence ids of the range `count` times and shuffles them together.
void AppendShuffled(SequenceRange range, int64_t count, NumpyRandom* random,
                    std::vector<int32_t>* documents) {
  const size_t begin = documents->size();
  for (int64_t epoch = 0; epoch < count; ++epoch) {
    for (int64_t id = range.begin; id < range.end; ++id) {
      documents->push_back(static_cast<int32_t>(id));
    }
  }
  random->Shuffle(absl::MakeSpan(*documents).subspan(begin));
}

std::vector<int32_t> OrderDocuments(SequenceRange range, const Epochs& plan, NumpyRandom* random) {
  std::vector<int32_t> documents;
  documents.reserve(plan.count * (range.end - range.begin));
  const int64_t together = plan.separate_last ? plan.count - 1 : plan.count;
  AppendShuffled(range, together, random, &documents);
  if (plan.separate_last) AppendShuffled(range, 1, random, &documents);
  return documents;
}

// Positions 0 to `samples` (inclusive); position i is token i * sequence of the stream of
// documents.
std::vector<SamplePosition> CutSamples(const std::vector<int32_t>& documents,
                                       const std::vector<int32_t>& lengths, int64_t first_id,
                                       int64_t sequence, int64_t samples) {
  std::vector<SamplePosition> positions(samples + 1);
  size_t document = 0;
  int64_t begin = 0;  // first token of the document in the stream
  for (int64_t i = 0; i <= samples; ++i) {
    const int64_t at = i * sequence;
    while (begin + lengths[documents[document] - first_id] <= at) {
      begin += lengths[documents[document++] - first_id];
    }
    positions[i] = {.document = static_cast<uint32_t>(document),
                    .offset = static_cast<uint32_t>(at - begin)};
  }
  return positions;
}

std::vector<uint32_t> OrderSamples(const Epochs& plan, NumpyRandom* random) {
  std::vector<uint32_t> shuffle(plan.samples);
  std::iota(shuffle.begin(), shuffle.end(), uint32_t{0});
  const absl::Span<uint32_t> all = absl::MakeSpan(shuffle);
  random->Shuffle(all.subspan(0, plan.first_samples));
  random->Shuffle(all.subspan(plan.first_samples));
  return shuffle;
}

template <typename T>
void Append(const T* values, size_t count, std::vector<uint8_t>* bytes) {
  const size_t begin = bytes->size();
  bytes->resize(begin + count * sizeof(T));
  std::memcpy(bytes->data() + begin, values, count * sizeof(T));
}

// The payload "order" of an order file (data/README.md#cache). The documents come last because an
// odd number of them would misalign an array of 8-byte elements.
absl::StatusOr<std::vector<uint8_t>> BuildFile(const IndexedDataset& dataset,
                                               const MegatronPart& part) {
  ASSIGN_OR_RETURN(const MegatronIndices indices, BuildMegatronIndices(dataset, part));
  const std::array<int64_t, kCounts> counts = {static_cast<int64_t>(indices.documents.size()),
                                               part.num_samples};
  std::vector<uint8_t> bytes;
  bytes.reserve(sizeof(counts) + part.num_samples * sizeof(SamplePosition) +
                indices.documents.size() * sizeof(int32_t));
  Append(counts.data(), kCounts, &bytes);
  for (int64_t i = 0; i < part.num_samples; ++i) {
    Append(&indices.samples[indices.shuffle[i]], 1, &bytes);
  }
  Append(indices.documents.data(), indices.documents.size(), &bytes);
  return bytes;
}

}  // namespace

absl::StatusOr<MegatronIndices> BuildMegatronIndices(const IndexedDataset& dataset,
                                                     const MegatronPart& part) {
  const SequenceRange range = part.range;
  std::vector<int32_t> lengths(range.end - range.begin);
  for (size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = static_cast<int32_t>(dataset.SequenceStart(range.begin + i + 1) -
                                      dataset.SequenceStart(range.begin + i));
  }
  dataset.ReleaseIndexPages();
  const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  if (tokens == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(dataset.prefix(), ": sequences ", range.begin, " to ", range.end,
                     " have no tokens; add text or change data.split"));
  }
  const Epochs plan = PlanEpochs(tokens, part);
  RETURN_IF_ERROR(CheckSizes(dataset, part, plan));
  NumpyRandom random(part.seed);
  MegatronIndices indices;
  indices.documents = OrderDocuments(range, plan, &random);
  indices.samples =
      CutSamples(indices.documents, lengths, range.begin, part.sequence, plan.samples);
  indices.shuffle = OrderSamples(plan, &random);
  return indices;
}

absl::StatusOr<std::unique_ptr<SampleSource>> MegatronOrder::Create(
    const IndexedDataset& dataset, const MegatronPart& part, const std::string& name,
    const std::string& cache_folder) {
  const CacheEntry entry{
      .prefix = absl::StrCat(dataset.prefix(), ".", name),
      .folder = cache_folder,
      .key = absl::StrCat("megatron order 1\nidx ", dataset.IndexHash(), "\nbin bytes ",
                          dataset.num_tokens() * dataset.token_bytes(), "\nsequences ",
                          part.range.begin, " to ", part.range.end, "\nsequence ", part.sequence,
                          "\nsamples ", part.num_samples, "\nseed ", part.seed, "\n")};
  ASSIGN_OR_RETURN(CachedBytes bytes, LoadOrBuild(entry, [&] { return BuildFile(dataset, part); }));
  return std::unique_ptr<SampleSource>(new MegatronOrder(dataset, std::move(bytes)));
}

MegatronOrder::MegatronOrder(const IndexedDataset& dataset, CachedBytes bytes)
    : dataset_(dataset), bytes_(std::move(bytes)) {
  const auto* counts = reinterpret_cast<const int64_t*>(bytes_.data());
  num_samples_ = counts[1];
  samples_ = reinterpret_cast<const SamplePosition*>(counts + kCounts);
  documents_ = reinterpret_cast<const int32_t*>(samples_ + num_samples_);
}

SamplePosition MegatronOrder::PositionOf(int64_t sample) const {
  bytes_.CountRead();
  return samples_[sample % num_samples_];
}

template <typename Visit>
void MegatronOrder::ForEachPiece(int64_t sample, int64_t tokens, Visit visit) const {
  const SamplePosition position = PositionOf(sample);
  const int32_t* document = documents_ + position.document;
  int64_t offset = position.offset;
  for (int64_t done = 0; done < tokens; ++document) {
    const int64_t begin = dataset_.SequenceStart(*document) + offset;
    const int64_t count = std::min(dataset_.SequenceStart(*document + 1) - begin, tokens - done);
    if (count > 0) visit(begin, count);
    done += count;
    offset = 0;
  }
}

void MegatronOrder::Read(int64_t sample, absl::Span<int32_t> ids) const {
  ForEachPiece(sample, static_cast<int64_t>(ids.size()), [&](int64_t begin, int64_t count) {
    dataset_.Read(begin, ids.subspan(0, count));
    ids.remove_prefix(count);
  });
}

TokenLocation MegatronOrder::Locate(int64_t sample, int64_t offset) const {
  TokenLocation location{.dataset = &dataset_, .token = 0};
  ForEachPiece(sample, offset + 1,
               [&](int64_t begin, int64_t count) { location.token = begin + count - 1; });
  return location;
}

}  // namespace unipool
