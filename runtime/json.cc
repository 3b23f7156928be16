#include "runtime/json.h"

#include <glog/logging.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

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

// Passes the library's events on, with names and types that need no header of the library.
class Adaptor final : public nlohmann::json_sax<Library> {
 public:
  explicit Adaptor(JsonEvents& events) : events_(events) {}

  bool null() override { return events_.Null(); }
  bool boolean(bool value) override { return events_.Bool(value); }
  bool number_integer(number_integer_t value) override { return events_.Negative(value); }
  bool number_unsigned(number_unsigned_t value) override { return events_.Unsigned(value); }
  bool number_float(number_float_t value, const string_t&) override {
    return events_.Double(value);
  }
  bool string(string_t& value) override { return events_.String(value); }
  bool binary(binary_t&) override { return false; }  // JSON text has none
  bool start_object(size_t) override { return events_.StartObject(); }
  bool end_object() override { return events_.EndObject(); }
  bool start_array(size_t) override { return events_.StartArray(); }
  bool end_array() override { return events_.EndArray(); }
  bool key(string_t& name) override { return events_.Key(name); }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception&) override {
    events_.Malformed(position, token);
    return false;
  }

 private:
  JsonEvents& events_;
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
    status =
        absl::InvalidArgumentError(absl::StrCat("not valid JSON at byte ", byte, ", near '",
                                                absl::Utf8SafeCEscape(token.substr(0, 40)), "'"));
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

std::string Json::Dump(int indent) const {
  return ToLibrary(*this).dump(indent, ' ', false, Library::error_handler_t::replace);
}

bool ReadJson(absl::string_view text, JsonEvents& events) {
  Adaptor adaptor(events);
  return Library::sax_parse(text.data(), text.data() + text.size(), &adaptor);
}

}  // namespace unipool
