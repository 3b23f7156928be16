#include "data/prepare/file_kind.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "data/index_format.h"

namespace unipool {
namespace {

constexpr std::array kJsonLines = {"jsonl", "ndjson", "jsonlines", "json-lines", "ldjson", "json"};
constexpr std::array kCompressions = {"gz", "gzip", "zst", "zstd"};
constexpr char kDecompress[] = "decompress it or convert it to .gz or .zst";
constexpr char kUnpack[] = "unpack it";
constexpr char kConvert[] = "convert it to JSON lines";

template <typename Words>
bool Contains(const Words& words, absl::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// "1", "00002", "part-00002", "00000-of-00008", "-00000-of-00008".
bool IsNumber(absl::string_view text) {
  absl::ConsumePrefix(&text, "part");
  bool has_digit = false;
  for (const absl::string_view word : absl::StrSplit(text, absl::ByAnyChar("-_"))) {
    const bool is_digits = std::all_of(word.begin(), word.end(), absl::ascii_isdigit);
    if (!is_digits && word != "of") return false;
    has_digit |= is_digits && !word.empty();
  }
  return has_digit;
}

// Whether the extension is the kind, or the kind with a number: "jsonl-00000-of-00008", "json_1".
bool IsOfKind(absl::string_view extension, absl::string_view kind) {
  if (!absl::ConsumePrefix(&extension, kind)) return false;
  return extension.empty() || ((extension[0] == '-' || extension[0] == '_') && IsNumber(extension));
}

// The last extension in lower case, without those of compression and numbers; "" if there is none.
std::string ExtensionOf(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  std::vector<absl::string_view> parts = absl::StrSplit(lower, '.');
  while (parts.size() > 1 && (Contains(kCompressions, parts.back()) || IsNumber(parts.back()))) {
    parts.pop_back();
  }
  return parts.size() > 1 ? std::string(parts.back()) : "";
}

// "sha256", "md5", "crc32", "b2" and the like.
bool IsAlgorithm(absl::string_view word) {
  if (word == "sha" || word == "crc" || word == "b2") return true;
  const bool has_name = absl::ConsumePrefix(&word, "sha") || absl::ConsumePrefix(&word, "md") ||
                        absl::ConsumePrefix(&word, "crc");
  return has_name && !word.empty() && std::all_of(word.begin(), word.end(), absl::ascii_isdigit);
}

// "SHA256SUMS", "md5sum", "checksums", "data-checksums", or an extension such as ".sha256".
bool IsChecksums(absl::string_view stem, absl::string_view extension) {
  for (const char* name : {"checksum", "checksums"}) {
    if (stem == name) return true;
  }
  if (absl::EndsWith(stem, "-checksums") || absl::EndsWith(stem, "_checksums")) return true;
  absl::ConsumeSuffix(&stem, "s");
  if (absl::ConsumeSuffix(&stem, "sum") && IsAlgorithm(stem)) return true;
  absl::ConsumeSuffix(&extension, "sum");
  return IsAlgorithm(extension) || extension == "sfv" || extension == "sig";
}

// Files that engines for big data write beside their output.
bool IsMarker(absl::string_view lower) {
  return lower == "_success" || lower == "_metadata" || lower == "_common_metadata" ||
         absl::StartsWith(lower, "_committed") || absl::StartsWith(lower, "_started");
}

struct Format {
  absl::string_view magic;
  size_t at;
  const char* name;
  const char* advice;
};

using absl::string_view;
const Format kFormats[] = {
    {string_view("BZh"), 0, "bzip2 data", kDecompress},  // and kBzip2Block at byte 4
    {string_view("\xfd\x37zXZ\0", 6), 0, "xz data", kDecompress},
    {string_view("\x04\x22\x4d\x18"), 0, "lz4 data", kDecompress},
    {string_view("\xff\x06\0\0sNaPpY", 10), 0, "snappy data", kDecompress},
    {string_view("\x1f\x9d"), 0, "compress data", kDecompress},
    {string_view("\x1f\x8b"), 0, "gzip data inside of compressed data", kDecompress},
    {string_view("\x28\xb5\x2f\xfd"), 0, "zstd data inside of compressed data", kDecompress},
    {string_view("PK\x03\x04"), 0, "a zip archive", kUnpack},
    {string_view("PK\x05\x06"), 0, "a zip archive", kUnpack},
    {string_view("7z\xbc\xaf\x27\x1c"), 0, "a 7z archive", kUnpack},
    {string_view("Rar!\x1a\x07"), 0, "a rar archive", kUnpack},
    {string_view("ustar"), 257, "a tar archive", kUnpack},
    {string_view("PAR1\x15"), 0, "a Parquet file", kConvert},
    {string_view("ARROW1\0\0", 8), 0, "an Arrow file", kConvert},
    {string_view("Obj\x01"), 0, "an Avro file", kConvert},
    {string_view("\x89HDF\r\n\x1a\n"), 0, "an HDF5 file", kConvert},
    {string_view("SQLite format 3\0", 16), 0, "an SQLite database", kConvert},
    {string_view("\x93NUMPY"), 0, "a NumPy array", kConvert},
    {string_view("%PDF-"), 0, "a PDF document", "convert it to text"},
    {string_view(index_format::kMagic, index_format::kMagicBytes), 0, "the index of token files",
     "give the text instead"},
    {string_view(kOrderMagic, sizeof(kOrderMagic)), 0, "an order of samples",
     "give the text instead"},
};
constexpr char kBzip2Block[] = "1AY&SY";

struct UnreadableExtension {
  const char* extension;
  const char* advice;
};
constexpr UnreadableExtension kUnreadable[] = {
    {"xz", kDecompress}, {"bz2", kDecompress},  {"lz4", kDecompress}, {"lzma", kDecompress},
    {"zip", kUnpack},    {"7z", kUnpack},       {"rar", kUnpack},     {"tar", kUnpack},
    {"tgz", kUnpack},    {"tbz2", kUnpack},     {"txz", kUnpack},     {"parquet", kConvert},
    {"arrow", kConvert}, {"feather", kConvert}, {"avro", kConvert},   {"orc", kConvert}};

}  // namespace

NamedFormat FormatOfName(absl::string_view name) {
  const std::string extension = ExtensionOf(name);
  if (IsOfKind(extension, "jl")) return NamedFormat::kEither;
  const bool is_json = std::any_of(kJsonLines.begin(), kJsonLines.end(),
                                   [&](const char* kind) { return IsOfKind(extension, kind); });
  return is_json ? NamedFormat::kJsonLines : NamedFormat::kText;
}

const char* ReasonToSkip(absl::string_view name) {
  if (absl::StartsWith(name, ".")) return "hidden";
  if (FormatOfName(name) != NamedFormat::kText) return nullptr;
  const std::string lower = absl::AsciiStrToLower(name);
  const absl::string_view stem = absl::string_view(lower).substr(0, lower.find('.'));
  if (stem == "readme" || absl::StartsWith(stem, "readme-") || absl::StartsWith(stem, "readme_")) {
    return "a readme";
  }
  for (const char* license : {"license", "licence"}) {
    if (stem == license || absl::StartsWith(stem, absl::StrCat(license, "-"))) return "a license";
  }
  // Usual names of files about the data, if they are in capitals.
  for (const char* about : {"COPYING", "NOTICE", "CITATION", "AUTHORS"}) {
    if (name.substr(0, name.find('.')) == about) return "about the data";
  }
  if (IsChecksums(stem, ExtensionOf(name))) return "checksums";
  return IsMarker(lower) ? "a marker file" : nullptr;
}

const char* ReasonToSkipFolder(absl::string_view name) {
  if (absl::StartsWith(name, ".")) return "hidden";
  return name == "_temporary" || name == "_delta_log" ? "a marker folder" : nullptr;
}

absl::Status CheckName(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  const std::string extension = ExtensionOf(name);
  for (const UnreadableExtension& kind : kUnreadable) {
    const bool is_last = absl::EndsWith(lower, absl::StrCat(".", kind.extension));
    if (!is_last && extension != kind.extension) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(".", kind.extension, " files cannot be read; ", kind.advice));
  }
  return absl::OkStatus();
}

absl::Status CheckContent(absl::string_view head) {
  for (const Format& format : kFormats) {
    if (head.size() < format.at || !absl::StartsWith(head.substr(format.at), format.magic))
      continue;
    const bool is_bzip2 = format.magic == "BZh";
    if (is_bzip2 && !absl::StartsWith(head.substr(std::min<size_t>(head.size(), 4)), kBzip2Block)) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the content is ", format.name, ", not text; ", format.advice));
  }
  return absl::OkStatus();
}

bool BeginsLikeJson(absl::string_view begin) {
  return absl::StartsWith(begin, "{\"") || absl::StartsWith(begin, "[{\"");
}

}  // namespace unipool
