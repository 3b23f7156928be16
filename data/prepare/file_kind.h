// What an input file is, judged by its name and by the first bytes of its text.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace unipool {

enum class NamedFormat {
  kText,       // plain text, or unknown
  kJsonLines,  // .jsonl, .ndjson, .jsonlines, .json-lines, .ldjson, .json
  kEither,     // .jl: JSON lines, or a program in Julia
};

// The format that the last extension names in any case. Extensions of compression and numbers of
// parts are passed over: A.JSONL.GZ, a.jsonl.1, a.jsonl.part-00002, a.jsonl-00000-of-00008.gz.
NamedFormat FormatOfName(absl::string_view name);

// Why a file below an input folder is no document because of its name: "hidden", "a readme", ...;
// null if it may be one.
const char* ReasonToSkip(absl::string_view name);
// The same for a folder.
const char* ReasonToSkipFolder(absl::string_view name);

// INVALID_ARGUMENT with what to do if the name is that of a format that cannot be read, such as
// .xz, .zip or .parquet. The message does not contain the path; so it is below.
absl::Status CheckName(absl::string_view name);

// The same for the first bytes of the text of a file, after decompression.
inline constexpr size_t kContentHeadBytes = 512;
absl::Status CheckContent(absl::string_view head);

// First bytes of the files of the order MEGATRON beside token files (data/README.md#cache), with
// the terminating zero.
inline constexpr char kOrderMagic[] = "UNIORDR";

// Whether a text begins as JSON lines or a JSON array do. `begin` holds its first characters that
// are no spaces.
inline constexpr size_t kJsonBeginBytes = 3;
bool BeginsLikeJson(absl::string_view begin);

}  // namespace unipool
