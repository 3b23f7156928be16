#include "launch/checkpoint/manifest.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "configs/checkpoint.pb.h"
#include "data/blend.h"
#include "launch/checkpoint/manifest_rules.h"
#include "launch/config/renamed_fields.h"
#include "runtime/content_hash.h"
#include "runtime/files.h"
#include "runtime/quote.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using config::Manifest;

// 100 bytes for each of ten million stored tensors.
constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;
constexpr char kSeal[] = "# xxh3_128: ";

std::string SealOf(absl::string_view text) {
  return absl::StrCat(kSeal, ContentHash::Of(text), "\n");
}

// Quotes text from the file, so that an error stays one line.
std::string Quoted(absl::string_view text) { return absl::StrCat("'", CutInput(text), "'"); }

// The text before the final hash line, if the hash is right.
absl::StatusOr<std::string> Unseal(const std::string& path, const std::string& text) {
  const size_t at = text.rfind(kSeal);
  if (at == std::string::npos) {
    return absl::DataLossError(absl::StrCat(path, ": has no last line '", kSeal,
                                            "HEX': the file is damaged, or of a format before ",
                                            kCheckpointVersion, "; use another checkpoint"));
  }
  const std::string body = text.substr(0, at), expected = SealOf(body);
  if (text.substr(at) == expected) return body;
  return absl::DataLossError(absl::StrCat(
      path, ": damaged: its bytes have hash ", ContentHash::Of(body), ", its last line says ",
      Quoted(absl::StripTrailingAsciiWhitespace(absl::string_view(text).substr(at)))));
}

// Collects the first error of the parser, which would otherwise print errors, and warnings about
// former field names, to standard error.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text_.empty()) text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  // "LINE:COLUMN: what is wrong".
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// The word number `index`, from 0, that a message of the parser has in double quotes; "" if there
// is none.
std::string QuotedWord(const std::string& message, size_t index) {
  const std::vector<std::string> parts = absl::StrSplit(message, '"');
  return 2 * index + 1 < parts.size() ? parts[2 * index + 1] : "";
}

// A field or value that this version does not know is no damage: an older checkpoint of the run
// must not replace this one.
absl::Status ParseError(const std::string& path, const FirstError& errors) {
  const std::string& text = errors.text();
  const std::string first = QuotedWord(text, 0), second = QuotedWord(text, 1);
  std::string unknown;
  if (absl::StrContains(text, "has no field named")) unknown = "field " + Quoted(second);
  if (absl::StrContains(text, "Unknown enumeration value")) {
    unknown = absl::StrCat("value ", Quoted(first), " of field ", Quoted(second));
  }
  if (!unknown.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": ", unknown,
                     " is unknown to this version; a newer UniPool wrote the checkpoint: use that "
                     "version"));
  }
  return absl::DataLossError(
      absl::StrCat(path, ": is no manifest: ", Quoted(text), "; use another checkpoint"));
}

// Checks the contents of a manifest whose hash is right. A failure is an error of the writer.
class Tables {
 public:
  Tables(const std::string& path, const Manifest& manifest) : path_(path), manifest_(manifest) {}

  absl::Status Check() const {
    if (manifest_.format_version() > kCheckpointVersion) {
      return absl::FailedPreconditionError(absl::StrCat(
          path_, ": format_version is ", manifest_.format_version(), ", this version reads ",
          kCheckpointVersion, "; a newer UniPool wrote the checkpoint: use that version"));
    }
    if (manifest_.format_version() != kCheckpointVersion) {
      return absl::DataLossError(absl::StrCat(path_, ": format_version ",
                                              manifest_.format_version(), ": expected ",
                                              kCheckpointVersion));
    }
    for (const char* field : {"step", "validation_due", "run", "ranks", "expert_ranks", "data",
                              "random", "statistics", "router_c", "divergence"}) {
      const auto* descriptor = Manifest::descriptor()->FindFieldByName(field);
      if (!manifest_.GetReflection()->HasField(manifest_, descriptor)) {
        return Bad("holds no ", field);
      }
    }
    RETURN_IF_ERROR(CheckCursor());
    RETURN_IF_ERROR(CheckFiles());
    return CheckTensors();
  }

 private:
  template <typename... Words>
  absl::Status Bad(const Words&... words) const {
    return absl::DataLossError(absl::StrCat(path_, ": ", words...));
  }

  // Checks the position in the data and the state of divergence detection.
  absl::Status CheckCursor() const {
    const Manifest::Data& data = manifest_.data();
    if (!data.has_next_step() || !data.has_rewound_steps() || data.rewound_steps() < 0) {
      return Bad("data: expected next_step and rewound_steps, 0 or more");
    }
    RETURN_IF_ERROR(CheckOrderVersion(data.order_version()));
    if (data.datasets().empty()) return Bad("data: holds no datasets");
    for (const Manifest::Dataset& set : data.datasets()) {
      if (set.has_prefix() && set.has_documents() && set.has_tokens() && set.has_idx_xxh3_128() &&
          set.has_bin_sample_xxh3_128()) {
        continue;
      }
      return Bad("data: dataset ", Quoted(set.prefix()), ": expected prefix, documents, tokens, ",
                 "idx_xxh3_128 and bin_sample_xxh3_128");
    }
    const Manifest::Divergence& judged = manifest_.divergence();
    if (judged.losses_size() == judged.norms_size() && judged.has_skipped_in_a_row() &&
        judged.has_skipped() && judged.has_rewinds()) {
      return absl::OkStatus();
    }
    return Bad("divergence: expected as many losses as norms (", judged.losses_size(), ", ",
               judged.norms_size(), ") and skipped_in_a_row, skipped, rewinds");
  }

  // A newer version is no damage: an older checkpoint of the run must not replace this one.
  absl::Status CheckOrderVersion(int version) const {
    if (version <= 0) return Bad("data: order_version is ", version, ", expected 1 or more");
    if (version <= kOrderVersion) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": data.order_version is ", version, ", but this program knows versions 1 to ",
        kOrderVersion, "; use the program that wrote the checkpoint, or a newer one"));
  }

  absl::Status CheckFiles() const {
    std::set<std::string> names;
    for (const Manifest::File& file : manifest_.files()) {
      if (file.name().empty() || file.name().find('/') != std::string::npos) {
        return Bad("expected the name of a file, found ", Quoted(file.name()));
      }
      if (!names.insert(file.name()).second) return Bad("names ", Quoted(file.name()), " twice");
    }
    for (const Manifest::StoredTensor& tensor : manifest_.tensors()) {
      if (names.count(tensor.file()) == 0) {
        return Bad(Quoted(tensor.name()), " is in ", Quoted(tensor.file()),
                   ", which is not one of files");
      }
    }
    return absl::OkStatus();
  }

  // Checks that the pieces of each (parameter, part) are adjacent and start at 0, and that both
  // moments have as many elements as the weight.
  absl::Status CheckTensors() const {
    std::vector<std::tuple<std::string, int, int64_t, int64_t>> pieces;
    for (const Manifest::StoredTensor& tensor : manifest_.tensors()) {
      pieces.emplace_back(tensor.parameter(), tensor.part(), tensor.begin(), tensor.end());
    }
    std::sort(pieces.begin(), pieces.end());
    std::map<std::pair<std::string, int>, int64_t> ends;
    for (const auto& [parameter, part, begin, end] : pieces) {
      int64_t& covered = ends[{parameter, part}];
      if (begin != covered || end < begin) {
        return Bad(Manifest::Part_Name(part), " of ", Quoted(parameter),
                   ": expected the piece from ", "element ", covered, " on, found [", begin, ", ",
                   end, ")");
      }
      covered = end;
    }
    for (const auto& [key, end] : ends) {
      const auto weight = ends.find({key.first, Manifest::WEIGHT});
      if (weight == ends.end()) return Bad("holds no weight of ", Quoted(key.first));
      if (weight->second == end) continue;
      return Bad(Manifest::Part_Name(key.second), " of ", Quoted(key.first), " has ", end,
                 " elements: expected ", weight->second);
    }
    for (const auto& [key, end] : ends) {
      if (key.second == Manifest::WEIGHT) continue;
      const int other = key.second == Manifest::EXP_AVG ? Manifest::EXP_AVG_SQ : Manifest::EXP_AVG;
      if (ends.count({key.first, other}) > 0) continue;
      return Bad("holds no ", Manifest::Part_Name(other), " of ", Quoted(key.first));
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  const Manifest& manifest_;
};

}  // namespace

std::string CheckpointName(int64_t step) { return absl::StrFormat("step_%08d", step); }

absl::Status WriteManifest(const std::string& folder, const Manifest& manifest) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  std::string text;
  printer.PrintToString(manifest, &text);
  return WriteFileAtomically(absl::StrCat(folder, "/", kManifestName),
                             absl::StrCat(text, SealOf(text)));
}

absl::StatusOr<Manifest> ReadManifest(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kManifestName);
  const absl::StatusOr<std::string> text = ReadSmallFile(path, kMaxManifestBytes);
  if (absl::IsNotFound(text.status())) return text.status();
  if (!text.ok()) return absl::DataLossError(text.status().message());
  ASSIGN_OR_RETURN(const std::string body, Unseal(path, *text));
  Manifest manifest;
  FirstError errors;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  if (!parser.ParseFromString(body, &manifest)) {
    return ParseError(path, errors);
  }
  // The user cannot rename fields in a checkpoint, so there is no warning.
  const absl::Status moved = MoveRenamedFields(&manifest, nullptr, nullptr);
  if (!moved.ok()) return absl::DataLossError(absl::StrCat(path, ": ", moved.message()));
  RETURN_IF_ERROR(Tables(path, manifest).Check());
  RETURN_IF_ERROR(CheckManifestValues(path, manifest));
  return manifest;
}

int64_t NumElements(const Manifest::StoredTensor& tensor) { return tensor.end() - tensor.begin(); }

}  // namespace unipool
