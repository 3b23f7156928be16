#include "data/bpe_vocabulary.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/quote.h"
#include "runtime/status.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

constexpr char kEndOfText[] = "<|endoftext|>";
constexpr int kBytes = 256;
constexpr uint32_t kFirstStandIn = 0x100;

absl::Status Damaged(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

// The text of a file without a byte order mark.
absl::StatusOr<std::string> ReadText(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadSmallFile(path, BpeVocabulary::kMaxFileBytes));
  if (absl::StartsWith(text, kByteOrderMark)) text.erase(0, sizeof(kByteOrderMark) - 1);
  return text;
}

bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::string Utf8(uint32_t code) {  // below U+0800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// The character that stands for each byte in the files.
std::vector<std::string> ByteNames() {
  std::vector<std::string> names(kBytes);
  uint32_t next = kFirstStandIn;
  for (int byte = 0; byte < kBytes; ++byte) {
    names[byte] = Utf8(StandsForItself(byte) ? byte : next++);
  }
  return names;
}

// The bytes of a token as written in the files; nullopt if a character does not stand for a byte.
std::optional<std::string> BytesOfName(absl::string_view name) {
  static const auto* const kByteOfName = [] {
    auto* bytes = new absl::flat_hash_map<std::string, char>;
    const std::vector<std::string> names = ByteNames();
    for (int byte = 0; byte < kBytes; ++byte) (*bytes)[names[byte]] = static_cast<char>(byte);
    return bytes;
  }();
  std::string bytes;
  while (!name.empty()) {
    const size_t length = static_cast<uint8_t>(name[0]) < 0x80 ? 1 : 2;
    const auto found = kByteOfName->find(name.substr(0, length));
    if (found == kByteOfName->end()) return std::nullopt;
    bytes.push_back(found->second);
    name.remove_prefix(length);
  }
  return bytes;
}

// Accepts only {"token": id, ...}.
class VocabHandler : public JsonEvents {
 public:
  explicit VocabHandler(absl::flat_hash_map<std::string, int32_t>* ids) : ids_(*ids) {}

  bool Unsigned(uint64_t value) override {
    if (depth_ != 1 || value > INT32_MAX) return Refuse("a number");
    if (ids_.emplace(key_, static_cast<int32_t>(value)).second) return true;
    problem_ = absl::StrCat(QuoteInput(key_), " occurs twice; expected each token once");
    return false;
  }
  bool StartObject() override { return ++depth_ == 1 || Refuse("an object"); }
  bool EndObject() override { return true; }
  bool Key(std::string& name) override {
    key_.swap(name);
    return true;
  }
  void Malformed(size_t byte, const std::string&) override {
    problem_ =
        absl::StrCat("not valid JSON at byte ", byte,
                     "; expected {\"token\": id, ...}; if the file was truncated, copy it again");
  }
  bool Null() override { return Refuse("null"); }
  bool Bool(bool) override { return Refuse("a boolean"); }
  bool Negative(int64_t) override { return Refuse("a negative number"); }
  bool Double(double) override { return Refuse("a number that is not an integer"); }
  bool String(std::string&) override { return Refuse("a string"); }
  bool StartArray() override { return Refuse("an array"); }
  bool EndArray() override { return true; }

  const std::string& problem() const { return problem_; }

 private:
  bool Refuse(const char* kind) {
    problem_ = absl::StrCat(kind, depth_ == 0 ? "" : absl::StrCat(" for ", QuoteInput(key_)),
                            "; expected {\"token\": id, ...}");
    return false;
  }

  absl::flat_hash_map<std::string, int32_t>& ids_;
  int depth_ = 0;
  std::string key_;
  std::string problem_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BpeVocabulary>> BpeVocabulary::Read(const std::string& vocab_file,
                                                                   const std::string& merges_file) {
  ASSIGN_OR_RETURN(const std::string vocab, ReadText(vocab_file));
  Ids ids;
  VocabHandler handler(&ids);
  if (!ReadJson(vocab, handler)) return Damaged(vocab_file, handler.problem());
  std::unique_ptr<BpeVocabulary> self(new BpeVocabulary);
  RETURN_IF_ERROR(self->IndexTokens(vocab_file, ids));
  RETURN_IF_ERROR(self->ReadMerges(merges_file, ids));
  RETURN_IF_ERROR(self->CheckAllReachable(vocab_file, merges_file));
  return self;
}

absl::Status BpeVocabulary::IndexTokens(const std::string& file, const Ids& ids) {
  std::vector<const std::string*> names(ids.size());
  for (const auto& [name, id] : ids) {
    if (id >= static_cast<int32_t>(ids.size()) || names[id] != nullptr) {
      return Damaged(file,
                     absl::StrCat("id ", id, " of ", QuoteInput(name), "; expected 0 to ",
                                  ids.size() - 1, ", each once, for ", ids.size(), " tokens"));
    }
    names[id] = &name;
  }
  for (const std::string* name : names) {
    std::optional<std::string> bytes = BytesOfName(*name);
    if (!bytes.has_value() || name->empty()) {
      return Damaged(file, absl::StrCat("token ", QuoteInput(*name),
                                        "; expected only characters that stand for a byte"));
    }
    tokens_.push_back(*std::move(bytes));
  }
  for (const std::string& name : ByteNames()) {
    const auto found = ids.find(name);
    if (found == ids.end()) {
      return Damaged(file,
                     absl::StrCat("no token ", QuoteInput(name), "; expected one for each byte"));
    }
    of_byte_.push_back(found->second);
  }
  const auto end = ids.find(kEndOfText);
  if (end == ids.end()) {
    return Damaged(file, absl::StrCat("no token \"", kEndOfText,
                                      "\"; expected it to mark the end of a document"));
  }
  end_of_text_ = end->second;
  tokens_[end_of_text_].clear();
  return absl::OkStatus();
}

absl::Status BpeVocabulary::ReadMerges(const std::string& file, const Ids& ids) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(file));
  int64_t number = 0;
  absl::string_view rest = text;
  const size_t last = rest.find_last_not_of(" \r\n");  // blank lines may follow
  rest = rest.substr(0, last == absl::string_view::npos ? 0 : last + 1);
  while (!rest.empty()) {
    absl::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    ++number;
    // No token has a carriage return, which is written as another character.
    if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
    if (number == 1 && absl::StartsWith(line, "#version")) continue;
    const absl::Status status = AddMerge(line, ids);
    if (!status.ok()) {
      return Damaged(absl::StrCat(file, ":", number), std::string(status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status BpeVocabulary::AddMerge(absl::string_view line, const Ids& ids) {
  const std::vector<absl::string_view> names = absl::StrSplit(line, absl::MaxSplits(' ', 2));
  if (names.size() != 2 || names[0].empty() || names[1].empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("got ", QuoteInput(line), "; expected two tokens with a space between"));
  }
  const std::string both = absl::StrCat(names[0], names[1]);
  int32_t found_ids[3];
  for (int i = 0; i < 3; ++i) {
    const absl::string_view name = i == 2 ? absl::string_view(both) : names[i];
    const auto found = ids.find(name);
    if (found == ids.end() || found->second == end_of_text_) {
      return absl::InvalidArgumentError(
          absl::StrCat(QuoteInput(name),
                       " is not a token of the vocabulary; use the merges.txt that belongs "
                       "to this vocab.json"));
    }
    found_ids[i] = found->second;
  }
  const auto rank = static_cast<int32_t>(merges_.size());
  const uint64_t pair = static_cast<uint64_t>(found_ids[0]) << 32 | found_ids[1];
  if (merges_.emplace(pair, Merge{rank, found_ids[2]}).second) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(QuoteInput(line), " occurs twice; expected each pair once"));
}

absl::Status BpeVocabulary::CheckAllReachable(const std::string& vocab_file,
                                              const std::string& merges_file) const {
  std::vector<bool> reachable(tokens_.size());
  reachable[end_of_text_] = true;
  for (const int32_t id : of_byte_) reachable[id] = true;
  for (const auto& [pair, merge] : merges_) reachable[merge.id] = true;
  for (size_t id = 0; id < reachable.size(); ++id) {
    if (reachable[id]) continue;
    return Damaged(merges_file, absl::StrCat("no line makes token ", id, " of ", vocab_file, ", ",
                                             QuoteInput(tokens_[id]),
                                             "; if the file was truncated, copy it again"));
  }
  return absl::OkStatus();
}

BpeVocabulary::Merge BpeVocabulary::Find(int32_t left, int32_t right) const {
  const auto found = merges_.find(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right));
  return found == merges_.end() ? Merge{kNoMerge, -1} : found->second;
}

}  // namespace unipool
