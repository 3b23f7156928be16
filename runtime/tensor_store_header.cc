#include "runtime/tensor_store_header.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/json.h"
#include "runtime/quote.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr char kMetadata[] = "__metadata__";
constexpr int64_t kTextBegin = 8;
constexpr std::array kDTypes = {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64,
                                DType::kBFloat16};

// Reports what the document parser does not: the position of a syntax error, and duplicate keys.
class Syntax : public JsonEvents {
 public:
  const std::string& error() const { return error_; }

  bool Null() override { return true; }
  bool Bool(bool) override { return true; }
  bool Negative(int64_t) override { return true; }
  bool Unsigned(uint64_t) override { return true; }
  bool Double(double) override { return true; }
  bool String(std::string&) override { return true; }
  bool StartObject() override { return Enter(); }
  bool EndObject() override { return Leave(); }
  bool StartArray() override { return Enter(); }
  bool EndArray() override { return Leave(); }
  bool Key(std::string& name) override {
    if (keys_.back().insert(name).second) return true;
    error_ =
        absl::StrCat("expected distinct names, found '", CutInput(name), "' twice");
    return false;
  }
  void Malformed(size_t byte, const std::string& token) override {
    error_ =
        absl::StrCat("expected JSON, which ends at byte ", kTextBegin + static_cast<int64_t>(byte),
                     " before '", CutInput(token.substr(0, 40)), "'");
  }

 private:
  static constexpr size_t kMaxDepth = 3;

  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    error_ = "expected tensors, found deeper nesting";
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;
  std::string error_;
};

// Parses and checks one header; holds the parts of all error messages.
class Parser {
 public:
  Parser(const std::string& path, absl::string_view text, int64_t file_bytes)
      : path_(path),
        text_(text),
        data_begin_(kTextBegin + static_cast<int64_t>(text.size())),
        data_bytes_(file_bytes - data_begin_) {}

  absl::StatusOr<TensorHeader> Parse() const {
    Syntax syntax;
    if (!ReadJson(text_, syntax)) return Damage(syntax.error());
    ASSIGN_OR_RETURN(const Json document, Json::Parse(text_));
    if (!document.is_object()) return Damage("expected a JSON object");
    TensorHeader header;
    for (const auto& [name, value] : document.members()) {
      if (name == kMetadata) {
        RETURN_IF_ERROR(ParseMetadata(value, &header.metadata));
        continue;
      }
      ASSIGN_OR_RETURN(TensorInfo info, ParseTensor(name, value));
      header.tensors.emplace_back(name, std::move(info));
    }
    RETURN_IF_ERROR(Arrange(&header));
    return header;
  }

 private:
  absl::Status Damage(absl::string_view what) const {
    return absl::DataLossError(
        absl::StrCat(path_, ": header at byte ", kTextBegin, ": ", what, kDamageAdvice));
  }

  template <typename... Parts>
  absl::Status TensorDamage(const std::string& name, const Parts&... parts) const {
    const size_t found = text_.find(absl::StrCat("\"", name, "\""));
    const int64_t byte =
        kTextBegin + (found == absl::string_view::npos ? 0 : static_cast<int64_t>(found));
    return absl::DataLossError(absl::StrCat(path_, ": tensor '", CutInput(name),
                                            "' at byte ", byte, ": ", parts..., kDamageAdvice));
  }

  absl::Status ParseMetadata(const Json& json, std::map<std::string, std::string>* out) const {
    if (!json.is_object()) return Damage("expected __metadata__ to be an object");
    for (const auto& [key, value] : json.members()) {
      if (!value.is_string()) {
        return Damage(absl::StrCat("expected text for __metadata__ '", CutInput(key),
                                   "', found ", CutInput(value.Dump())));
      }
      (*out)[key] = value.string();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& json) const {
    const Json* const dtype = json.Find("dtype");
    const Json* const shape = json.Find("shape");
    const Json* const range = json.Find("data_offsets");
    if (dtype == nullptr || shape == nullptr || range == nullptr || json.members().size() != 3) {
      return TensorDamage(name, "expected dtype, shape and data_offsets, found ",
                          json.Dump().substr(0, 80));
    }
    TensorInfo info;
    ASSIGN_OR_RETURN(info.dtype, ParseDType(name, *dtype));
    ASSIGN_OR_RETURN(info.shape, ParseNumbers(name, "shape", *shape));
    ASSIGN_OR_RETURN(const auto offsets, ParseNumbers(name, "data_offsets", *range));
    int64_t bytes = static_cast<int64_t>(SizeOf(info.dtype));
    for (const int64_t dim : info.shape) {
      if (!__builtin_mul_overflow(bytes, dim, &bytes)) continue;
      return TensorDamage(name, "expected a size below 2^63 bytes, found shape ", shape->Dump());
    }
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes_) {
      return TensorDamage(name, "expected data_offsets to be two ascending numbers up to ",
                          data_bytes_, ", found ", range->Dump());
    }
    info.begin = data_begin_ + offsets[0];
    info.bytes = offsets[1] - offsets[0];
    if (info.bytes == bytes) return info;
    return TensorDamage(name, "expected ", bytes, " bytes for ", FileName(info.dtype), " ",
                        shape->Dump(), ", found data_offsets ", range->Dump());
  }

  absl::StatusOr<DType> ParseDType(const std::string& name, const Json& json) const {
    for (const DType dtype : kDTypes) {
      if (json.is_string() && FileName(dtype) == json.string()) return dtype;
    }
    return TensorDamage(name, "expected dtype F32, F64, I32, I64 or BF16, found ",
                        json.Dump().substr(0, 80));
  }

  absl::StatusOr<std::vector<int64_t>> ParseNumbers(const std::string& name,
                                                    absl::string_view field,
                                                    const Json& json) const {
    std::vector<int64_t> numbers;
    const auto fits = [](const Json& value) { return value.is_integer() && value.integer() >= 0; };
    if (!json.is_array() || !std::all_of(json.elements().begin(), json.elements().end(), fits)) {
      return TensorDamage(name, "expected ", field,
                          " to be a list of whole numbers below 2^63, found ",
                          json.Dump().substr(0, 80));
    }
    for (const Json& value : json.elements()) numbers.push_back(value.integer());
    return numbers;
  }

  // Sorts tensors by offset and checks that they cover the data without overlap, gap or trailing
  // bytes.
  absl::Status Arrange(TensorHeader* header) const {
    std::stable_sort(header->tensors.begin(), header->tensors.end(),
                     [](const auto& a, const auto& b) {
                       return std::tie(a.second.begin, a.second.bytes) <
                              std::tie(b.second.begin, b.second.bytes);
                     });
    int64_t end = data_begin_;
    for (const auto& [name, info] : header->tensors) {
      if (info.begin != end) {
        return TensorDamage(name, "expected its data at byte ", end,
                            " of the file, found them at byte ", info.begin,
                            info.begin < end ? " (overlap)" : " (gap)");
      }
      end += info.bytes;
    }
    if (end == data_begin_ + data_bytes_) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(path_, ": byte ", end, ": expected the end of the file, found ",
                     data_begin_ + data_bytes_ - end, " trailing bytes", kDamageAdvice));
  }

  const std::string& path_;
  const absl::string_view text_;
  const int64_t data_begin_;
  const int64_t data_bytes_;
};

}  // namespace

absl::string_view FileName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kFloat64:
      return "F64";
    case DType::kInt32:
      return "I32";
    case DType::kInt64:
      return "I64";
    case DType::kBFloat16:
      return "BF16";
  }
  LOG(FATAL) << "unknown dtype " << static_cast<int>(dtype);
}

std::string FormatTensorHeader(const std::vector<TensorSpec>& specs,
                               const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) absl::StrAppend(&text, "\"", kMetadata, "\":", Json(metadata).Dump(), ",");
  uint64_t begin = 0;
  for (const TensorSpec& spec : specs) {
    uint64_t end = SizeOf(spec.dtype);
    for (const int64_t dim : spec.shape) end *= static_cast<uint64_t>(dim);
    end += begin;
    absl::StrAppend(&text, Json(spec.name).Dump(), ":{\"dtype\":\"", FileName(spec.dtype),
                    "\",\"shape\":[", absl::StrJoin(spec.shape, ","), "],\"data_offsets\":[", begin,
                    ",", end, "]},");
    begin = end;
  }
  if (text.back() == ',') text.pop_back();
  text.push_back('}');
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

absl::StatusOr<TensorHeader> ParseTensorHeader(const std::string& path, absl::string_view text,
                                               int64_t file_bytes) {
  return Parser(path, text, file_bytes).Parse();
}

}  // namespace unipool
