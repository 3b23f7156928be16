// JSON documents and JSON events. This header is the only door to the JSON library, whose own
// header costs seconds in every source that includes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// A JSON value. Objects keep the order in which their members were added. Integers and floating
// point numbers are distinct kinds.
class Json {
 public:
  enum class Kind : uint8_t {
    kNull,
    kBool,
    kInteger,       // within int64
    kLargeInteger,  // above int64, within uint64; kept so that messages show it exactly
    kDouble,
    kString,
    kArray,
    kObject
  };
  using Member = std::pair<std::string, Json>;

  // Input nested deeper than this is refused, so that no input can exhaust the stack.
  static constexpr int kMaxDepth = 256;

  Json() = default;  // null
  Json(bool value) : kind_(Kind::kBool), integer_(value ? 1 : 0) {}
  template <typename T,
            std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>, int> = 0>
  Json(T value) : kind_(Kind::kInteger), integer_(static_cast<int64_t>(value)) {}
  Json(double value) : kind_(Kind::kDouble), double_(value) {}
  Json(float value) : Json(static_cast<double>(value)) {}
  Json(std::string value) : kind_(Kind::kString), string_(std::move(value)) {}
  Json(const char* value) : Json(std::string(value)) {}
  template <typename T>
  Json(const std::vector<T>& values)
      : kind_(Kind::kArray), elements_(values.begin(), values.end()) {}
  Json(const std::map<std::string, std::string>& members);
  // An object; a name that is given twice is there twice.
  Json(std::initializer_list<Member> members) : kind_(Kind::kObject), members_(members) {}

  static Json Array() { return OfKind(Kind::kArray); }
  static Json Object() { return OfKind(Kind::kObject); }
  static Json LargeInteger(uint64_t value);

  // Parses one document, with nothing but white space after it. Numbers beyond the range of a
  // double become infinities, and NaN, Infinity and -Infinity are read as Python's json module
  // writes them. INVALID_ARGUMENT names the byte, from 1, at which the text stops being JSON, or
  // the depth limit.
  static absl::StatusOr<Json> Parse(absl::string_view text);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_integer() const { return kind_ == Kind::kInteger; }
  bool is_number() const {
    return is_integer() || kind_ == Kind::kLargeInteger || kind_ == Kind::kDouble;
  }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_array() const { return kind_ == Kind::kArray; }
  bool is_object() const { return kind_ == Kind::kObject; }

  // Each CHECKs the kind; number() takes any number.
  bool boolean() const;
  int64_t integer() const;
  uint64_t large_integer() const;
  double number() const;
  const std::string& string() const;
  const std::vector<Json>& elements() const;
  const std::vector<Member>& members() const;

  // The last member of that name, or null if there is none or this is no object. Borrowed.
  const Json* Find(absl::string_view name) const;
  // The member of that name, which must exist.
  const Json& at(absl::string_view name) const;
  // The member of that name, added as null if there is none. A null value becomes an object.
  Json& operator[](absl::string_view name);
  // Appends to an array; a null value becomes an array.
  void Append(Json value);
  // Adds a member to an object without looking for one of the same name.
  void AddMember(std::string name, Json value);
  // Adds the members of another object, replacing those of the same name.
  void Update(Json other);

  // What a message shows of a value: a number or a word in full, the first bytes of a string
  // (QuoteInput), and only the kind of an array or an object.
  std::string Shown() const;

  // The text on one line, or with that many spaces per level. Bytes that are not UTF-8 become
  // U+FFFD; numbers that are not finite become null.
  std::string Dump(int indent = -1) const;

  friend bool operator==(const Json&, const Json&) = default;

 private:
  static Json OfKind(Kind kind);

  Kind kind_ = Kind::kNull;
  int64_t integer_ = 0;  // a boolean too; the bits of a large integer
  double double_ = 0;
  std::string string_;
  std::vector<Json> elements_;
  std::vector<Member> members_;
};

// Receives the events of a JSON text in order, without a document in memory. Returning false stops
// the reading.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual bool Null() = 0;
  virtual bool Bool(bool value) = 0;
  virtual bool Negative(int64_t value) = 0;     // an integer below 0
  virtual bool Unsigned(uint64_t value) = 0;    // any other integer
  virtual bool Double(double value) = 0;        // NaN or infinite as in Json::Parse
  virtual bool String(std::string& value) = 0;  // may be moved from
  virtual bool Key(std::string& name) = 0;      // may be moved from
  virtual bool StartObject() = 0;
  virtual bool EndObject() = 0;
  virtual bool StartArray() = 0;
  virtual bool EndArray() = 0;
  // `byte`, from 1, is where the text stops being JSON; `token` is what was read there.
  virtual void Malformed(size_t byte, const std::string& token) = 0;
  // A string has half of a surrogate pair, which stands for no character: the escape `half`, as in
  // "\ud800", begins at `byte`, from 1.
  virtual void LoneSurrogate(size_t byte, const std::string& half) { Malformed(byte, half); }
};

// Returns whether the whole text is JSON and every event returned true. Uses no recursion.
bool ReadJson(absl::string_view text, JsonEvents& events);

}  // namespace unipool
