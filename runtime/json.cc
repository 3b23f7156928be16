#include "runtime/json.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "runtime/json_numbers.h"
#include "runtime/quote.h"

namespace unipool {
namespace {

using Library = nlohmann::ordered_json;

Library ToLibrary(const Json& json) {
  switch (json.kind()) {
    case Json::Kind::kNull:
      return nullptr;
    case Json::Kind::kBool:
      return json.boolean();
    case Json::Kind::kInteger:
      return json.integer();
    case Json::Kind::kLargeInteger:
      return json.large_integer();
    case Json::Kind::kDouble:
      return json.number();
    case Json::Kind::kString:
      return json.string();
    case Json::Kind::kArray: {
      Library array = Library::array();
      for (const Json& element : json.elements()) array.push_back(ToLibrary(element));
      return array;
    }
    case Json::Kind::kObject: {
      Library object = Library::object();
      for (const auto& [name, value] : json.members()) {
        object.get_ref<Library::object_t&>().emplace_back(name, ToLibrary(value));
      }
      return object;
    }
  }
  return nullptr;
}

constexpr size_t kEscapeBytes = 6;  // of an escape such as \ud800

// The code of the escape at `at`, or 0 if there is none.
uint32_t EscapedCode(absl::string_view text, size_t at) {
  uint32_t code = 0;
  if (at + kEscapeBytes > text.size() || text.substr(at, 2) != "\\u") return 0;
  return absl::SimpleHexAtoi(text.substr(at + 2, 4), &code) ? code : 0;
}

// The start of the escape that is half of a surrogate pair, if the library stopped for that reason
// after `read` bytes; else npos. A first half is found to be alone up to 6 bytes after its end.
size_t LoneSurrogateAt(absl::string_view text, size_t read) {
  for (size_t after = kEscapeBytes; after <= 2 * kEscapeBytes && after <= read; ++after) {
    const uint32_t code = EscapedCode(text, read - after);
    const bool is_second = code >= 0xDC00 && code <= 0xDFFF && after == kEscapeBytes;
    const bool is_first = code >= 0xD800 && code <= 0xDBFF && after > kEscapeBytes;
    if (is_first || is_second) return read - after;
  }
  return absl::string_view::npos;
}

// Passes the library's events on, with names and types that need no header of the library.
class Adaptor final : public nlohmann::json_sax<Library> {
 public:
  // Both are borrowed. `text` is what the library reads.
  Adaptor(absl::string_view text, absl::Span<const SpecialNumber> special, JsonEvents& events)
      : text_(text), special_(special), events_(events) {}

  bool null() override { return events_.Null(); }
  bool boolean(bool value) override { return events_.Bool(value); }
  bool number_integer(number_integer_t value) override {
    ++number_id_;
    return events_.Negative(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    ++number_id_;
    return events_.Unsigned(value);
  }
  bool number_float(number_float_t value, const string_t&) override {
    const bool is_special = !special_.empty() && special_.front().number_id == number_id_;
    ++number_id_;
    if (!is_special) return events_.Double(value);
    const double special = special_.front().value;
    special_.remove_prefix(1);
    return events_.Double(special);
  }
  bool string(string_t& value) override { return events_.String(value); }
  bool binary(binary_t&) override { return false; }  // JSON text has none
  bool start_object(size_t) override { return events_.StartObject(); }
  bool end_object() override { return events_.EndObject(); }
  bool start_array(size_t) override { return events_.StartArray(); }
  bool end_array() override { return events_.EndArray(); }
  bool key(string_t& name) override { return events_.Key(name); }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    const bool is_surrogate = absl::StrContains(error.what(), "surrogate");
    const size_t half = is_surrogate ? LoneSurrogateAt(text_, position) : absl::string_view::npos;
    if (half == absl::string_view::npos) {
      events_.Malformed(position, token);
    } else {
      events_.LoneSurrogate(half + 1, std::string(text_.substr(half, kEscapeBytes)));
    }
    return false;
  }

 private:
  const absl::string_view text_;
  absl::Span<const SpecialNumber> special_;  // not reached yet
  JsonEvents& events_;
  int64_t number_id_ = 0;  // of the next number
};

// Builds a document from events.
class Builder final : public JsonEvents {
 public:
  absl::Status status;
  Json document;

  bool Null() override { return Add({}); }
  bool Bool(bool value) override { return Add(value); }
  bool Negative(int64_t value) override { return Add(value); }
  bool Unsigned(uint64_t value) override {
    constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    return value <= kMax ? Add(static_cast<int64_t>(value)) : Add(Json::LargeInteger(value));
  }
  bool Double(double value) override { return Add(value); }
  bool String(std::string& value) override { return Add(std::move(value)); }
  bool Key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }
  bool StartObject() override { return Open(Json::Object()); }
  bool EndObject() override { return Close(); }
  bool StartArray() override { return Open(Json::Array()); }
  bool EndArray() override { return Close(); }
  void Malformed(size_t byte, const std::string& token) override {
    constexpr size_t kShownBytes = 30;
    const size_t begin = token.size() - std::min(kShownBytes, token.size());
    status = absl::InvalidArgumentError(
        absl::StrCat("not valid JSON at byte ", byte, ", near ", QuoteInput(token.substr(begin))));
  }
  void LoneSurrogate(size_t byte, const std::string& half) override {
    status = absl::InvalidArgumentError(
        absl::StrCat("not valid JSON at byte ", byte, ": ", half, " is half of a surrogate pair"));
  }

 private:
  bool Open(Json container) {
    if (open_.size() >= static_cast<size_t>(Json::kMaxDepth)) {
      status = absl::InvalidArgumentError(
          absl::StrCat("arrays and objects are nested deeper than ", Json::kMaxDepth, " levels"));
      return false;
    }
    open_.emplace_back(std::move(key_), std::move(container));
    key_.clear();
    return true;
  }
  bool Close() {
    auto [name, value] = std::move(open_.back());
    open_.pop_back();
    key_ = std::move(name);
    return Add(std::move(value));
  }
  bool Add(Json value) {
    if (open_.empty()) {
      document = std::move(value);
    } else if (open_.back().second.is_array()) {
      open_.back().second.Append(std::move(value));
    } else {
      open_.back().second.AddMember(std::move(key_), std::move(value));
    }
    return true;
  }

  std::string key_;                 // of the next value, in an object
  std::vector<Json::Member> open_;  // containers that have not ended, each with its own key
};

}  // namespace

Json::Json(const std::map<std::string, std::string>& members)
    : kind_(Kind::kObject), members_(members.begin(), members.end()) {}

Json Json::OfKind(Kind kind) {
  Json json;
  json.kind_ = kind;
  return json;
}

Json Json::LargeInteger(uint64_t value) {
  Json json = OfKind(Kind::kLargeInteger);
  json.integer_ = static_cast<int64_t>(value);
  return json;
}

absl::StatusOr<Json> Json::Parse(absl::string_view text) {
  Builder builder;
  if (!ReadJson(text, builder)) return builder.status;
  return std::move(builder.document);
}

bool Json::boolean() const {
  CHECK(kind_ == Kind::kBool) << Dump();
  return integer_ != 0;
}

int64_t Json::integer() const {
  CHECK(kind_ == Kind::kInteger) << Dump();
  return integer_;
}

double Json::number() const {
  CHECK(is_number()) << Dump();
  if (kind_ == Kind::kInteger) return static_cast<double>(integer_);
  return kind_ == Kind::kLargeInteger ? static_cast<double>(large_integer()) : double_;
}

uint64_t Json::large_integer() const {
  CHECK(kind_ == Kind::kLargeInteger) << "not a large integer";
  return static_cast<uint64_t>(integer_);
}

const std::string& Json::string() const {
  CHECK(kind_ == Kind::kString) << Dump();
  return string_;
}

const std::vector<Json>& Json::elements() const {
  CHECK(kind_ == Kind::kArray) << Dump();
  return elements_;
}

const std::vector<Json::Member>& Json::members() const {
  CHECK(kind_ == Kind::kObject) << Dump();
  return members_;
}

const Json* Json::Find(absl::string_view name) const {
  for (auto member = members_.rbegin(); member != members_.rend(); ++member) {
    if (member->first == name) return &member->second;
  }
  return nullptr;
}

const Json& Json::at(absl::string_view name) const {
  const Json* found = Find(name);
  CHECK(found != nullptr) << "no member '" << name << "' in " << Dump();
  return *found;
}

Json& Json::operator[](absl::string_view name) {
  if (is_null()) kind_ = Kind::kObject;
  CHECK(kind_ == Kind::kObject) << Dump();
  if (const Json* found = Find(name)) return const_cast<Json&>(*found);
  return members_.emplace_back(std::string(name), Json()).second;
}

void Json::Append(Json value) {
  if (is_null()) kind_ = Kind::kArray;
  CHECK(kind_ == Kind::kArray) << Dump();
  elements_.push_back(std::move(value));
}

void Json::AddMember(std::string name, Json value) {
  CHECK(kind_ == Kind::kObject) << Dump();
  members_.emplace_back(std::move(name), std::move(value));
}

void Json::Update(Json other) {
  for (Member& member : other.members_) (*this)[member.first] = std::move(member.second);
}

std::string Json::Shown() const {
  switch (kind_) {
    case Kind::kDouble:
      if (std::isnan(double_)) return "NaN";
      if (std::isinf(double_)) return "a number beyond 1.8e308";
      return Dump();
    case Kind::kString:
      return QuoteInput(string_);
    case Kind::kArray:
      return "an array";
    case Kind::kObject:
      return "an object";
    default:
      return Dump();
  }
}

std::string Json::Dump(int indent) const {
  return ToLibrary(*this).dump(indent, ' ', false, Library::error_handler_t::replace);
}

bool ReadJson(absl::string_view text, JsonEvents& events) {
  const ReplacedNumbers replaced = ReplaceSpecialNumbers(text);
  if (!replaced.numbers.empty()) text = replaced.text;
  Adaptor adaptor(text, replaced.numbers, events);
  if (!Library::sax_parse(text.data(), text.data() + text.size(), &adaptor)) return false;
  // The library takes a zero byte for the end of the text.
  const size_t zero = text.find('\0');
  if (zero == absl::string_view::npos) return true;
  events.Malformed(zero + 1, std::string(1, '\0'));
  return false;
}

}  // namespace unipool
