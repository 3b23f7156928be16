#include "data/prepare/file_kind.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

TEST(FormatOfName, JsonLinesHaveManyNames) {
  for (const char* name : {"a.jsonl",
                           "a.ndjson",
                           "a.jsonlines",
                           "a.json-lines",
                           "a.ldjson",
                           "a.json",
                           "A.JSONL",
                           "a.Json",
                           "a.jsonl.gz",
                           "A.JSONL.GZ",
                           "a.jsonl.gzip",
                           "a.jsonl.zst",
                           "a.ndjson.zstd",
                           "a.jsonl.1",
                           "a.jsonl.00002",
                           "a.jsonl.1.gz",
                           "a.jsonl.gz.1",
                           "a.jsonl.part-00002",
                           "a.jsonl.part1",
                           "a.jsonl-00000-of-00008",
                           "a.jsonl_7",
                           "a.jsonl-00000-of-00008.zst",
                           "c4-train.00000-of-01024.json.gz",
                           "a.b.jsonl",
                           ".jsonl"}) {
    EXPECT_EQ(FormatOfName(name), NamedFormat::kJsonLines) << name;
  }
  EXPECT_EQ(FormatOfName("a.jl"), NamedFormat::kEither);
  EXPECT_EQ(FormatOfName("a.JL.gz"), NamedFormat::kEither);
}

TEST(FormatOfName, OtherNamesAreText) {
  for (const char* name :
       {"a.txt",      "a",          "jsonl",    "json.gz",     "a.txt.1",     "a.md", "a.jsonl.bak",
        "a.jsonl~",   "a.geojson",  "a.jsonld", "a.json5",     "a.jsonl-new", "1",    "",
        "a.jsonl.aa", "part-00000", "a.julia",  "a.jsonl.txt", "a..",         "."}) {
    EXPECT_EQ(FormatOfName(name), NamedFormat::kText) << name;
  }
}

TEST(ReasonToSkip, FilesAboutTheDataAreNoDocuments) {
  for (const char* name : {".hidden",        ".part-0.crc",  "README",
                           "README.md",      "readme.txt",   "Readme.zh.md",
                           "README.md.gz",   "README-en.md", "readme_first",
                           "LICENSE",        "license.txt",  "LICENCE.md",
                           "LICENSE-MIT",    "COPYING",      "NOTICE.txt",
                           "CITATION.cff",   "AUTHORS",      "SHA256SUMS",
                           "SHA256SUMS.txt", "sha1sum.txt",  "md5sums",
                           "MD5SUM",         "shasums",      "checksums.txt",
                           "checksum.md5",   "a.sha256",     "a.jsonl.gz.sha512",
                           "a.txt.md5",      "a.md5sum",     "a.crc",
                           "a.sfv",          "a.sig",        "data_checksums",
                           "b2sums.txt",     "_SUCCESS",     "_metadata",
                           "_committed_123", "_started_123"}) {
    EXPECT_NE(ReasonToSkip(name), nullptr) << name;
  }
}

TEST(ReasonToSkip, OtherFilesMayBeDocuments) {
  for (const char* name : {"a.txt",
                           "a.md",
                           "notice.txt",
                           "citation.txt",
                           "readmes.txt",
                           "readable.md",
                           "licenses.txt",
                           "license_plates.txt",
                           "summary.txt",
                           "sums.txt",
                           "about-a-checksum.txt",
                           "a.asc",
                           "sha.py",
                           "md.txt",
                           "_a.txt",
                           "copying.txt",
                           "README.jsonl",
                           "license.json",
                           "a.sh",
                           "md5.py"}) {
    EXPECT_EQ(ReasonToSkip(name), nullptr) << name;
  }
  EXPECT_STREQ(ReasonToSkipFolder(".git"), "hidden");
  EXPECT_STREQ(ReasonToSkipFolder("_temporary"), "a marker folder");
  EXPECT_EQ(ReasonToSkipFolder("readme"), nullptr);
}

TEST(CheckName, FormatsThatCannotBeReadAreNamed) {
  EXPECT_STATUS(CheckName("a.jsonl.xz"), kInvalidArgument,
                ".xz files cannot be read; decompress it or convert it to .gz or .zst");
  EXPECT_STATUS(CheckName("a.BZ2"), kInvalidArgument, ".bz2 files cannot be read");
  EXPECT_STATUS(CheckName("a.tar.gz"), kInvalidArgument, ".tar files cannot be read; unpack it");
  EXPECT_STATUS(CheckName("a.TGZ"), kInvalidArgument, ".tgz files cannot be read; unpack it");
  EXPECT_STATUS(CheckName("a.parquet"), kInvalidArgument, "convert it to JSON lines");
  for (const char* name : {"a.txt", "a.gz", "xz", "a.pt.br", "a.jsonl"}) {
    EXPECT_OK(CheckName(name));
  }
}

TEST(CheckContent, FormatsThatAreNoTextAreNamed) {
  using absl::string_view;
  for (const auto& [head, name] : std::vector<std::pair<string_view, std::string>>{
           {string_view("BZh91AY&SY\0", 11), "bzip2 data, not text; decompress it"},
           {string_view("\xfd\x37zXZ\0\0", 7), "xz data"},
           {"PK\x03\x04more", "a zip archive, not text; unpack it"},
           {"7z\xbc\xaf\x27\x1c", "a 7z archive"},
           {"\x04\x22\x4d\x18", "lz4 data"},
           {"PAR1\x15\x04", "a Parquet file, not text; convert it to JSON lines"},
           {string_view("ARROW1\0\0", 8), "an Arrow file"},
           {"\x1f\x8b", "gzip data inside of compressed data"},
           {"%PDF-1.7", "a PDF document"},
           {string_view("MMIDIDX\0\0\x01", 10), "the index of token files"}}) {
    EXPECT_STATUS(CheckContent(head), kInvalidArgument, "the content is " + name);
  }
  const std::string before(257, 'x');
  EXPECT_STATUS(CheckContent(absl::StrCat(before, "ustar")), kInvalidArgument, "a tar archive");
}

TEST(CheckContent, TextIsAccepted) {
  const std::string zeros(4, '\0'), long_text(600, 'x');
  for (const absl::string_view head :
       {absl::string_view(""), absl::string_view("a"), absl::string_view("BZh91 is text"),
        absl::string_view("PK"), absl::string_view("PAR1 is text"), absl::string_view("BZh"),
        absl::string_view("MMIDIDX"), absl::string_view(zeros), absl::string_view(long_text)}) {
    EXPECT_OK(CheckContent(head));
  }
}

}  // namespace
}  // namespace unipool
