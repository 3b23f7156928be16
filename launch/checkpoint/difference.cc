#include "launch/checkpoint/difference.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/checkpoint.pb.h"
#include "launch/config/config_fields.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using config::Manifest;
using Part = std::pair<std::string, Manifest::Part>;

std::set<Part> PartsOf(const Checkpoint& checkpoint) {
  std::set<Part> parts;
  for (const Manifest::StoredTensor& tensor : checkpoint.manifest().tensors()) {
    parts.emplace(tensor.parameter(), tensor.part());
  }
  return parts;
}

// Describes the difference of one weight or moment, called `name`; "" if all elements count as
// equal. Updates the largest difference of `all`.
absl::StatusOr<std::string> TensorDifference(const Checkpoint& a, const Checkpoint& b,
                                             const Part& part, const std::string& name,
                                             double tolerance, CheckpointDifference* all) {
  ASSIGN_OR_RETURN(const std::vector<float> left, a.ReadFlat(part.first, part.second));
  ASSIGN_OR_RETURN(const std::vector<float> right, b.ReadFlat(part.first, part.second));
  if (left.size() != right.size()) {
    return absl::StrCat(left.size(), " elements and ", right.size());
  }
  int64_t differing = 0;
  double largest = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    if (std::bit_cast<uint32_t>(left[i]) == std::bit_cast<uint32_t>(right[i])) continue;
    double difference = std::abs(static_cast<double>(left[i]) - right[i]);
    if (std::isnan(difference)) difference = std::numeric_limits<double>::infinity();
    if (tolerance == 0 || difference > tolerance) ++differing;
    largest = std::max(largest, difference);
    if (!all->largest_at.empty() && difference <= all->largest) continue;
    const double size = std::max(std::abs(left[i]), std::abs(right[i]));
    all->largest = difference;
    all->largest_relative = size > 0 ? difference / size : 0;
    all->largest_at = absl::StrCat(name, "[", i, "]");
  }
  if (differing == 0) return std::string();
  return absl::StrFormat("%d of %d elements, by at most %.3g", differing, left.size(), largest);
}

absl::Status CompareTensors(const Checkpoint& a, const Checkpoint& b, double tolerance,
                            CheckpointDifference* difference) {
  const std::set<Part> left = PartsOf(a), right = PartsOf(b);
  std::set<Part> all = left;
  all.insert(right.begin(), right.end());
  for (const Part& part : all) {
    const std::string name = absl::StrCat(part.first, " ", Manifest::Part_Name(part.second));
    if (left.count(part) == 0 || right.count(part) == 0) {
      difference->tensors[name] =
          absl::StrCat("only in the ", left.count(part) > 0 ? "first" : "second");
      continue;
    }
    ASSIGN_OR_RETURN(const std::string text,
                     TensorDifference(a, b, part, name, tolerance, difference));
    if (!text.empty()) difference->tensors[name] = text;
  }
  return absl::OkStatus();
}

// The manifest without its config and layout.
Manifest StateOf(const Checkpoint& checkpoint) {
  Manifest manifest = checkpoint.manifest();
  for (const char* layout :
       {"run", "ranks", "expert_ranks", "files", "tensors", "expert_map", "program"}) {
    manifest.GetReflection()->ClearField(&manifest,
                                         manifest.GetDescriptor()->FindFieldByName(layout));
  }
  for (auto& dataset : *manifest.mutable_data()->mutable_datasets()) dataset.clear_prefix();
  return manifest;
}

// The value of a field, the elements of a list joined by "; "; "" if the field is not set.
std::string FieldText(const Manifest& manifest, const google::protobuf::FieldDescriptor& field) {
  const google::protobuf::Reflection& access = *manifest.GetReflection();
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.SetUseShortRepeatedPrimitives(true);
  const bool is_list = field.is_repeated();
  const int count =
      is_list ? access.FieldSize(manifest, &field) : access.HasField(manifest, &field);
  std::string text;
  for (int i = 0; i < count; ++i) {
    std::string item;
    printer.PrintFieldValueToString(manifest, &field, is_list ? i : -1, &item);
    absl::StrAppend(&text, i > 0 ? "; " : "", item);
  }
  return text;
}

std::string Shortened(const std::string& text) {
  constexpr size_t kMax = 200;
  return text.size() <= kMax ? text : absl::StrCat(text.substr(0, kMax), "...");
}

std::map<std::string, Values> CompareStates(const Manifest& a, const Manifest& b) {
  std::map<std::string, Values> state;
  for (int i = 0; i < Manifest::descriptor()->field_count(); ++i) {
    const auto& field = *Manifest::descriptor()->field(i);
    const std::string left = FieldText(a, field), right = FieldText(b, field);
    if (left != right) state[field.name()] = {Shortened(left), Shortened(right)};
  }
  return state;
}

}  // namespace

absl::StatusOr<CheckpointDifference> Compare(const Checkpoint& a, const Checkpoint& b,
                                             double tolerance) {
  CheckpointDifference difference;
  for (const std::string& path : FieldPaths(a.manifest().run())) {
    const std::string left = TextAt(a.manifest().run(), path);
    const std::string right = TextAt(b.manifest().run(), path);
    if (left != right && path != "run_dir") difference.config[path] = {left, right};
  }
  difference.state = CompareStates(StateOf(a), StateOf(b));
  RETURN_IF_ERROR(CompareTensors(a, b, tolerance, &difference));
  return difference;
}

}  // namespace unipool
