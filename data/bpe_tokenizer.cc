// GPT-2's byte-level BPE: a text is split into pieces (gpt2_pretokenizer). Each piece starts as a
// sequence of single-byte tokens; all occurrences of the adjacent pair with the lowest rank are
// merged, and this repeats until no adjacent pair has a rank.
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "data/bpe_vocabulary.h"
#include "data/gpt2_pretokenizer.h"
#include "data/tokenizer.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using Merge = BpeVocabulary::Merge;

// Merges the bytes of one piece at a time. Buffers are reused between calls.
class PieceMerger {
 public:
  explicit PieceMerger(const BpeVocabulary& vocabulary) : vocabulary_(vocabulary) {}

  // The ids of the piece, valid until the next call.
  absl::Span<const int32_t> Run(absl::string_view piece) {
    CHECK_LT(piece.size(), size_t{INT32_MAX}) << "bytes in one piece of text";
    ids_.clear();
    for (const char byte : piece) ids_.push_back(vocabulary_.OfByte(static_cast<uint8_t>(byte)));
    pairs_.clear();
    for (size_t i = 0; i + 1 < ids_.size(); ++i) pairs_.push_back(Find(ids_[i], ids_[i + 1]));
    if (ids_.size() <= kShortBytes) {
      MergeByScan();
    } else {
      MergeByHeap();
    }
    return ids_;
  }

 private:
  // Up to this length scanning all pairs is faster than a heap.
  static constexpr size_t kShortBytes = 64;

  Merge Find(int32_t left, int32_t right) const { return vocabulary_.Find(left, right); }

  void MergeByScan() {
    while (true) {
      int32_t best = BpeVocabulary::kNoMerge;
      for (const Merge& pair : pairs_) best = std::min(best, pair.rank);
      if (best == BpeVocabulary::kNoMerge) return;
      MergeAll(best);
    }
  }

  // Merges all pairs of this rank in one pass from left to right, in place.
  void MergeAll(int32_t rank) {
    size_t kept = 0;
    bool was_merged = false;
    for (size_t i = 0; i < ids_.size(); ++kept) {
      const bool is_merged = i < pairs_.size() && pairs_[i].rank == rank;
      const int32_t id = is_merged ? pairs_[i].id : ids_[i];
      if (kept > 0) {
        pairs_[kept - 1] = is_merged || was_merged ? Find(ids_[kept - 1], id) : pairs_[i - 1];
      }
      ids_[kept] = id;
      was_merged = is_merged;
      i += is_merged ? 2 : 1;
    }
    ids_.resize(kept);
    pairs_.resize(kept - 1);
  }

  // The same result for long pieces: symbols form a linked list, and their pairs a heap ordered by
  // (rank, position). Pairs that a merge creates enter the heap only after all pairs of the current
  // rank are merged, as in MergeAll.
  void MergeByHeap() {
    const auto num = static_cast<int32_t>(ids_.size());
    pairs_.push_back({BpeVocabulary::kNoMerge, -1});
    next_.resize(num);
    previous_.resize(num);
    heap_.clear();
    for (int32_t i = 0; i < num; ++i) {
      next_[i] = i + 1;
      previous_[i] = i - 1;
      if (pairs_[i].rank != BpeVocabulary::kNoMerge) heap_.push_back({pairs_[i].rank, i});
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    while (!heap_.empty()) {
      const int32_t rank = heap_.front().first;
      fresh_.clear();
      while (!heap_.empty() && heap_.front().first == rank) {
        const int32_t at = heap_.front().second;
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
        heap_.pop_back();
        if (pairs_[at].rank == rank) MergeAt(at, num);
      }
      for (const auto& pair : fresh_) {
        heap_.push_back(pair);
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
      }
    }
    int32_t kept = 0;
    for (int32_t at = 0; at < num; at = next_[at]) ids_[kept++] = ids_[at];
    ids_.resize(kept);
  }

  void MergeAt(int32_t at, int32_t num) {
    const int32_t right = next_[at];
    ids_[at] = pairs_[at].id;
    pairs_[right].rank = BpeVocabulary::kNoMerge;
    next_[at] = next_[right];
    if (next_[at] < num) previous_[next_[at]] = at;
    SetPair(at, num);
    if (previous_[at] >= 0) SetPair(previous_[at], num);
  }

  void SetPair(int32_t at, int32_t num) {
    pairs_[at] =
        next_[at] < num ? Find(ids_[at], ids_[next_[at]]) : Merge{BpeVocabulary::kNoMerge, -1};
    if (pairs_[at].rank != BpeVocabulary::kNoMerge) fresh_.push_back({pairs_[at].rank, at});
  }

  const BpeVocabulary& vocabulary_;
  std::vector<int32_t> ids_;
  std::vector<Merge> pairs_;  // of each symbol with the next one
  std::vector<int32_t> next_, previous_;
  std::vector<std::pair<int32_t, int32_t>> heap_, fresh_;
};

// Direct-mapped cache from short pieces to their ids: a few words make up most of a text.
class ShortPieces {
 public:
  static constexpr size_t kMaxBytes = 15;
  static constexpr size_t kMaxIds = 3;

  struct Key {
    uint64_t low, high;  // the bytes, zero padding, and in the top byte their number
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    Key key{};
    int32_t num_ids = 0;
    std::array<int32_t, kMaxIds> ids;
  };

  // `readable`: bytes that may be read from `piece` on, at least `bytes`.
  static Key KeyOf(const char* piece, size_t bytes, size_t readable) {
    Key key{};
    if (readable >= sizeof(key)) {
      std::memcpy(&key, piece, sizeof(key));
      key.low &= bytes >= 8 ? ~uint64_t{0} : ~(~uint64_t{0} << 8 * bytes);
      key.high &= bytes <= 8 ? 0 : ~(~uint64_t{0} << 8 * (bytes - 8));
    } else {
      std::memcpy(&key, piece, bytes);
    }
    key.high |= static_cast<uint64_t>(bytes) << 56;
    return key;
  }

  Slot& SlotOf(const Key& key) {
    const uint64_t mixed = (key.low ^ (key.high * 0x9E3779B97F4A7C15)) * 0xD6E8FEB86659FD93;
    return slots_[(mixed ^ mixed >> 29) * 0x9E3779B97F4A7C15 >> (64 - kSlotBits)];
  }

 private:
  static constexpr int kSlotBits = 16;
  std::vector<Slot> slots_ = std::vector<Slot>(size_t{1} << kSlotBits);
};

class BpeEncoder : public TextEncoder {
 public:
  BpeEncoder(const BpeVocabulary& vocabulary, const Gpt2Pretokenizer& pretokenizer)
      : pretokenizer_(pretokenizer), merger_(vocabulary) {}

  void Encode(absl::string_view text, std::vector<int32_t>* ids) override {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = pretokenizer_.PieceEnd(text, begin);
      if (end - begin <= ShortPieces::kMaxBytes) {
        AppendShort(text.substr(begin), end - begin, ids);
      } else {
        AppendLong(text.substr(begin, end - begin), ids);
      }
      begin = end;
    }
  }

 private:
  // Limits of the cache of longer pieces: bytes of a piece, and number of pieces.
  static constexpr size_t kMaxLongBytes = 256;
  static constexpr size_t kMaxLong = 1 << 14;

  void AppendShort(absl::string_view rest, size_t bytes, std::vector<int32_t>* ids) {
    const ShortPieces::Key key = ShortPieces::KeyOf(rest.data(), bytes, rest.size());
    ShortPieces::Slot& slot = short_.SlotOf(key);
    if (!(slot.key == key)) {
      const absl::Span<const int32_t> found = merger_.Run(rest.substr(0, bytes));
      if (found.size() > ShortPieces::kMaxIds) {
        ids->insert(ids->end(), found.begin(), found.end());
        return;
      }
      slot.key = key;
      slot.num_ids = static_cast<int32_t>(found.size());
      std::copy(found.begin(), found.end(), slot.ids.begin());
    }
    for (int32_t i = 0; i < slot.num_ids; ++i) ids->push_back(slot.ids[i]);
  }

  void AppendLong(absl::string_view piece, std::vector<int32_t>* ids) {
    if (const auto found = long_.find(piece); found != long_.end()) {
      ids->insert(ids->end(), found->second.begin(), found->second.end());
      return;
    }
    const absl::Span<const int32_t> merged = merger_.Run(piece);
    ids->insert(ids->end(), merged.begin(), merged.end());
    if (piece.size() > kMaxLongBytes) return;
    if (long_.size() == kMaxLong) long_.clear();
    long_.try_emplace(piece, merged.begin(), merged.end());
  }

  const Gpt2Pretokenizer& pretokenizer_;
  PieceMerger merger_;
  ShortPieces short_;
  absl::flat_hash_map<std::string, std::vector<int32_t>> long_;
};

class Gpt2Tokenizer : public Tokenizer {
 public:
  Gpt2Tokenizer(std::unique_ptr<BpeVocabulary> vocabulary,
                std::unique_ptr<Gpt2Pretokenizer> pretokenizer)
      : vocabulary_(std::move(vocabulary)), pretokenizer_(std::move(pretokenizer)) {}

  int vocab() const override { return vocabulary_->size(); }
  int end_of_document() const override { return vocabulary_->end_of_text(); }
  std::unique_ptr<TextEncoder> NewEncoder() const override {
    return std::make_unique<BpeEncoder>(*vocabulary_, *pretokenizer_);
  }
  size_t SplitPoint(absl::string_view text, size_t begin) const override {
    return pretokenizer_->LastBoundary(text, begin);
  }
  std::string Decode(absl::Span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) text += BytesOf(id);
    return text;
  }
  int NumBytes(int32_t id) const override { return static_cast<int>(BytesOf(id).size()); }

 private:
  const std::string& BytesOf(int32_t id) const {
    CHECK(id >= 0 && id < vocab()) << id;
    return vocabulary_->Bytes(id);
  }

  std::unique_ptr<BpeVocabulary> vocabulary_;
  std::unique_ptr<Gpt2Pretokenizer> pretokenizer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenGpt2Tokenizer(const std::string& vocab_file,
                                                             const std::string& merges_file) {
  ASSIGN_OR_RETURN(auto vocabulary, BpeVocabulary::Read(vocab_file, merges_file));
  ASSIGN_OR_RETURN(auto pretokenizer, Gpt2Pretokenizer::Create());
  return std::make_unique<Gpt2Tokenizer>(std::move(vocabulary), std::move(pretokenizer));
}

}  // namespace unipool
