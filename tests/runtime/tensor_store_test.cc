#include "runtime/tensor_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;

std::string PathFor(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "tensor_store_test_", getpid(), "_", name,
                      ".safetensors");
}

std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

void Spill(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// One tensor of each type, a scalar and an empty one. The 5 floats misalign the int64 tensor.
class TensorStore : public ::testing::Test {
 protected:
  TensorStore() : path_(PathFor(::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~TensorStore() override { std::filesystem::remove(path_); }

  static std::vector<TensorSpec> Specs() {
    return {{"z.floats", DType::kFloat32, {5, 1}},
            {"longs", DType::kInt64, {2}},
            {"none", DType::kFloat32, {0, 7}},
            {"ints", DType::kInt32, {1, 1, 3}},
            {"scalar", DType::kFloat64, {}}};
  }

  absl::StatusOr<FileDigest> WriteAll() {
    auto writer = TensorFileWriter::Create(path_, Specs(), {{"step", "12"}, {"who", "\"ü\"\n"}});
    if (!writer.ok()) return writer.status();
    EXPECT_OK((*writer)->Write("z.floats", Tensor::Of(floats_, {5, 1})));
    EXPECT_OK((*writer)->Write("longs", Tensor::Of(longs_, {2})));
    EXPECT_OK((*writer)->Write("none", Tensor::Of(floats_, {0, 7})));
    EXPECT_OK((*writer)->Write("ints", Tensor::Of(ints_, {1, 1, 3})));
    EXPECT_OK((*writer)->Write("scalar", Tensor::Of(&scalar_, {})));
    return (*writer)->Finish();
  }

  // Opens a file with this header text and this number of data bytes.
  absl::Status OpenText(std::string text, size_t data_bytes) {
    text.append((8 - text.size() % 8) % 8, ' ');
    const uint64_t length = text.size();
    std::string bytes(reinterpret_cast<const char*>(&length), 8);
    Spill(path_, bytes + text + std::string(data_bytes, '\1'));
    return TensorFile::Open(path_).status();
  }

  // Opens a file of 8 data bytes with one tensor with these fields.
  absl::Status OpenTensor(const char* dtype, const char* shape, const char* offsets) {
    return OpenText(absl::StrCat(R"({"w":{"dtype":)", dtype, R"(,"shape":)", shape,
                                 R"(,"data_offsets":)", offsets, "}}"),
                    8);
  }

  const std::string path_;
  float floats_[5] = {1.5f, -2, 3, 4, 1e-40f};
  int64_t longs_[2] = {int64_t{1} << 50, -1};
  int32_t ints_[3] = {7, 8, -9};
  double scalar_ = 0.1;
};

TEST_F(TensorStore, ReadsBackWhatWasWritten) {
  ASSERT_OK(WriteAll());
  const auto file = TensorFile::Open(path_).value();
  EXPECT_EQ(file->names(),
            (std::vector<std::string>{"z.floats", "longs", "none", "ints", "scalar"}));
  EXPECT_EQ(file->metadata(),
            (std::map<std::string, std::string>{{"step", "12"}, {"who", "\"ü\"\n"}}));
  float floats[5];
  int64_t longs[2];
  int32_t ints[3];
  double scalar;
  ASSERT_OK(file->Read("scalar", Tensor::Of(&scalar, {})));
  ASSERT_OK(file->Read("longs", Tensor::Of(longs, {2})));
  ASSERT_OK(file->Read("ints", Tensor::Of(ints, {1, 1, 3})));
  ASSERT_OK(file->Read("z.floats", Tensor::Of(floats, {5, 1})));
  ASSERT_OK(file->Read("none", Tensor::Of<float>(nullptr, {0, 7})));
  EXPECT_EQ(std::memcmp(floats, floats_, sizeof(floats)), 0);
  EXPECT_EQ(std::memcmp(longs, longs_, sizeof(longs)), 0);
  EXPECT_EQ(std::memcmp(ints, ints_, sizeof(ints)), 0);
  EXPECT_EQ(scalar, 0.1);
}

TEST_F(TensorStore, DataBeginAlignedAndFollowOneAnother) {
  ASSERT_OK(WriteAll());
  const auto file = TensorFile::Open(path_).value();
  const TensorInfo first = file->Info("z.floats").value();
  EXPECT_EQ(first.begin % 8, 0);
  EXPECT_EQ(file->Info("longs")->begin, first.begin + 20);
  EXPECT_EQ(file->Info("none")->bytes, 0);
  EXPECT_EQ(file->Info("ints")->begin, first.begin + 36);
  EXPECT_EQ(file->Info("scalar")->shape, std::vector<int64_t>{});
  EXPECT_OK(file->Info("ints"));
  EXPECT_STATUS(file->Info("int"), kNotFound, "contains no tensor 'int'");
}

TEST_F(TensorStore, DigestOfTheWriterIsThatOfTheFile) {
  const FileDigest written = WriteAll().value();
  EXPECT_EQ(written.bytes, static_cast<int64_t>(std::filesystem::file_size(path_)));
  EXPECT_EQ(DigestFile(path_).value(), written);
  std::string bytes = Slurp(path_);
  bytes.back() ^= 1;
  Spill(path_, bytes);
  EXPECT_NE(DigestFile(path_)->xxh3_128, written.xxh3_128);
}

// Larger than one writeback chunk; the preallocated size is that of the file.
TEST_F(TensorStore, ALargeFileIsWholeAndTakesItsOwnRoom) {
  std::vector<int32_t> large((int64_t{21} << 20) / 4 + 1);
  std::iota(large.begin(), large.end(), 7);
  const auto size = static_cast<int64_t>(large.size());
  auto writer = TensorFileWriter::Create(
                    path_, {{"a", DType::kInt32, {size}}, {"b", DType::kInt32, {1, size}}}, {})
                    .value();
  ASSERT_OK(writer->Write("a", Tensor::Of(large.data(), {size})));
  ASSERT_OK(writer->Write("b", Tensor::Of(large.data(), {1, size})));
  const FileDigest written = writer->Finish().value();
  EXPECT_EQ(DigestFile(path_).value(), written);
  std::vector<int32_t> b(large.size() - 3);
  ASSERT_OK(TensorFile::Open(path_).value()->ReadBytes("b", 12, 4 * (size - 3), b.data()));
  EXPECT_EQ(std::memcmp(b.data(), large.data() + 3, 4 * b.size()), 0);
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, written.bytes);
  EXPECT_LT(status.st_blocks * 512, written.bytes + (1 << 20));
}

TEST_F(TensorStore, DigestIsThePublishedHash) {
  Spill(path_, "");
  EXPECT_EQ(DigestFile(path_).value(), (FileDigest{0, "99aa06d3014798d86001c324468d497f"}));
  EXPECT_STATUS(DigestFile(path_ + ".no"), kNotFound, path_ + ".no: cannot open");
}

TEST_F(TensorStore, FileWithoutTensorsIsAFile) {
  ASSERT_OK(TensorFileWriter::Create(path_, {}, {}).value()->Finish());
  EXPECT_TRUE(TensorFile::Open(path_).value()->names().empty());
}

TEST_F(TensorStore, UnfinishedWriterLeavesNoFile) {
  {
    auto writer = TensorFileWriter::Create(path_, Specs(), {}).value();
    ASSERT_OK(writer->Write("z.floats", Tensor::Of(floats_, {5, 1})));
    EXPECT_TRUE(std::filesystem::exists(path_));
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(TensorStore, FailedWriteNamesThePathAndTheByte) {
  std::vector<float> large(10000);
  const Tensor tensor = Tensor::Of(large.data(), {10000});
  {
    const testing::FileSizeLimit limit(5001);
    auto writer =
        TensorFileWriter::Create(path_, {{"large", DType::kFloat32, {10000}}}, {}).value();
    const absl::Status status = writer->Write("large", tensor);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ": byte 5001: write"));
    EXPECT_EQ(writer->Finish().status(), status);
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(TensorStore, CreateRefusesWhatCouldNotBeReadBack) {
  const auto create = [&](std::vector<TensorSpec> specs) {
    return TensorFileWriter::Create(path_, std::move(specs), {});
  };
  EXPECT_STATUS(create({{"a", DType::kFloat32, {1}}, {"a", DType::kInt32, {1}}}), kInvalidArgument,
                "expected distinct names, found 'a' twice");
  EXPECT_STATUS(create({{"\xff", DType::kFloat32, {1}}}), kInvalidArgument, "must be UTF-8");
  EXPECT_STATUS(create({{"__metadata__", DType::kFloat32, {1}}}), kInvalidArgument, "metadata");
  EXPECT_STATUS(create({{"a", DType::kFloat32, {-1}}}), kInvalidArgument, "float32[-1]");
  EXPECT_STATUS(create({{"a", DType::kFloat32, {int64_t{1} << 40, int64_t{1} << 40}}}),
                kInvalidArgument, "cannot have shape");
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_STATUS(TensorFileWriter::Create(path_ + "/no/x", {}, {}), kNotFound, "/no/x");
}

TEST_F(TensorStore, ReadChecksNameTypeAndShape) {
  ASSERT_OK(WriteAll());
  const auto file = TensorFile::Open(path_).value();
  EXPECT_STATUS(file->Read("float", Tensor::Of(floats_, {5})), kNotFound,
                path_ + ": contains no tensor 'float'");
  EXPECT_STATUS(file->Read("z.floats", Tensor::Of(floats_, {5})), kInvalidArgument,
                "expected float32[5], found float32[5, 1]");
  EXPECT_STATUS(file->Read("ints", Tensor::Of(floats_, {1, 1, 3})), kInvalidArgument,
                "expected float32[1, 1, 3], found int32[1, 1, 3]");
}

TEST_F(TensorStore, NoTruncatedFileOpens) {
  ASSERT_OK(WriteAll());
  const std::string bytes = Slurp(path_);
  for (size_t length = 0; length < bytes.size(); ++length) {
    Spill(path_, bytes.substr(0, length));
    EXPECT_STATUS(TensorFile::Open(path_), kDataLoss, path_ + ": ");
  }
  Spill(path_, bytes + "x");
  EXPECT_STATUS(TensorFile::Open(path_), kDataLoss,
                absl::StrCat("byte ", bytes.size(), ": expected the end of the file, found 1 "));
}

TEST_F(TensorStore, AFileThatIsCutWhileItIsOpenIsNamed) {
  ASSERT_OK(WriteAll());
  const auto file = TensorFile::Open(path_).value();
  const int64_t longs = file->Info("longs")->begin;
  std::filesystem::resize_file(path_, static_cast<uintmax_t>(longs) + 3);
  ASSERT_OK(file->Read("z.floats", Tensor::Of(floats_, {5, 1})));
  EXPECT_STATUS(file->Read("longs", Tensor::Of(longs_, {2})), kDataLoss,
                absl::StrCat(path_, ": tensor 'longs': byte ", longs + 3,
                             ": expected 13 bytes more, found the end"));
  int64_t one;
  EXPECT_STATUS(file->ReadBytes("longs", 8, 8, &one), kDataLoss,
                absl::StrCat("byte ", longs + 8, ": expected 8 bytes more"));
}

TEST_F(TensorStore, FlippedBitsInTheHeaderNeverReachOutsideTheFile) {
  ASSERT_OK(WriteAll());
  const std::string bytes = Slurp(path_);
  const auto data_begin =
      static_cast<size_t>(TensorFile::Open(path_).value()->Info("z.floats")->begin);
  int opened = 0;
  for (size_t bit = 0; bit < 8 * data_begin; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    Spill(path_, damaged);
    const auto file = TensorFile::Open(path_);
    if (!file.ok()) continue;
    ++opened;  // changed a name, a metadata text, or a type or shape of the same size
    for (const std::string& name : (*file)->names()) {
      const TensorInfo info = (*file)->Info(name).value();
      ASSERT_LE(info.begin + info.bytes, static_cast<int64_t>(bytes.size())) << bit;
    }
  }
  EXPECT_LT(opened, static_cast<int>(8 * data_begin) / 2);
}

TEST_F(TensorStore, OversizeHeaderLengthIsNamed) {
  ASSERT_OK(WriteAll());
  const std::string bytes = Slurp(path_);
  for (const uint64_t length :
       {uint64_t{bytes.size() - 7}, uint64_t{1} << 40, std::numeric_limits<uint64_t>::max()}) {
    std::string damaged = bytes;
    std::memcpy(damaged.data(), &length, 8);
    Spill(path_, damaged);
    EXPECT_STATUS(
        TensorFile::Open(path_), kDataLoss,
        absl::StrCat(path_, ": byte 0: expected a header of at most ", bytes.size() - 8,
                     " bytes in a file of ", bytes.size(), ", found a length of ", length));
  }
}

TEST_F(TensorStore, BadJsonIsNamedWithItsByte) {
  EXPECT_STATUS(OpenText(R"({"a": {"dtype")", 0), kDataLoss, "expected JSON, which ends at byte ");
  EXPECT_STATUS(OpenText("{}x", 0), kDataLoss, "ends at byte 11 ");
  EXPECT_STATUS(OpenText("[]", 0), kDataLoss, "expected a JSON object");
  EXPECT_STATUS(OpenText("", 0), kDataLoss, "header at byte 8");
  EXPECT_STATUS(OpenText("{\"\xff\": 1}", 0), kDataLoss, "expected JSON");
  EXPECT_STATUS(OpenText(std::string(100000, '['), 0), kDataLoss, "deeper nesting");
  EXPECT_STATUS(OpenText(R"({"__metadata__": 1})", 0), kDataLoss, "__metadata__");
  EXPECT_STATUS(OpenText(R"({"__metadata__": {"k": 1}})", 0), kDataLoss, "expected text");
}

TEST_F(TensorStore, TypeAndShapeOfATensorAreChecked) {
  EXPECT_OK(OpenTensor(R"("F32")", "[2]", "[0,8]"));
  EXPECT_STATUS(OpenTensor(R"("F16")", "[4]", "[0,8]"), kDataLoss,
                "tensor 'w' at byte 9: expected dtype F32, F64, I32, I64 or BF16, found \"F16\"");
  EXPECT_STATUS(OpenTensor("3", "[2]", "[0,8]"), kDataLoss, "expected dtype");
  for (const char* shape : {"[-2]", "[2.0]", "2", "[18446744073709551615]"}) {
    EXPECT_STATUS(
        OpenTensor(R"("F32")", shape, "[0,8]"), kDataLoss,
        absl::StrCat("expected shape to be a list of whole numbers below 2^63, found ", shape));
  }
  EXPECT_STATUS(OpenTensor(R"("F32")", "[4294967296,4294967296]", "[0,0]"), kDataLoss,
                "expected a size below 2^63 bytes");
}

TEST_F(TensorStore, OffsetsOfATensorAreChecked) {
  for (const char* offsets : {"[0,9]", "[8,0]", "[0,8,8]", "[]"}) {
    EXPECT_STATUS(OpenTensor(R"("F32")", "[2]", offsets), kDataLoss,
                  absl::StrCat("two ascending numbers up to 8, found ", offsets));
  }
  EXPECT_STATUS(OpenTensor(R"("F32")", "[3]", "[0,8]"), kDataLoss, "expected 12 bytes for F32 [3]");
  EXPECT_STATUS(OpenTensor(R"("F32")", "[1]", "[0,4]"), kDataLoss, "found 4 trailing bytes");
  EXPECT_STATUS(OpenTensor(R"("F32")", "[1]", "[4,8]"), kDataLoss, "(gap)");
  EXPECT_STATUS(OpenText(R"({"w":{"dtype":"F32","shape":[2]}})", 8), kDataLoss, "data_offsets");
}

TEST_F(TensorStore, OverlapsAndDuplicatesAreNamed) {
  const std::string whole = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string half = R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})";
  EXPECT_STATUS(OpenText(absl::StrCat(R"({"b":)", whole, R"(,"a":)", half, "}"), 8), kDataLoss,
                "tensor 'a' at byte ");
  EXPECT_STATUS(OpenText(absl::StrCat(R"({"b":)", whole, R"(,"a":)", half, "}"), 8), kDataLoss,
                "(overlap)");
  EXPECT_STATUS(OpenText(absl::StrCat(R"({"a":)", whole, R"(,"a":)", whole, "}"), 8), kDataLoss,
                "expected distinct names, found 'a' twice");
  EXPECT_STATUS(
      OpenText(R"({"a":{"dtype":"F32","dtype":"I32","shape":[],"data_offsets":[0,4]}})", 4),
      kDataLoss, "found 'dtype' twice");
}

TEST_F(TensorStore, AFolderIsNotAFile) {
  EXPECT_STATUS(TensorFile::Open(::testing::TempDir()), kInvalidArgument, "regular file");
  EXPECT_STATUS(TensorFile::Open(path_), kNotFound, path_ + ": cannot open");
}

TEST_F(TensorStore, APipeIsNotAFileAndIsNotWaitedFor) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_STATUS(TensorFile::Open(path_), kInvalidArgument, "regular file");
  EXPECT_STATUS(DigestFile(path_), kInvalidArgument, "regular file");
}

TEST_F(TensorStore, PlainPythonReadsIt) {
  if (std::system("python3 -c 'import struct, json' 2>/dev/null") != 0) {
    GTEST_SKIP() << "python3 is not installed";
  }
  ASSERT_OK(WriteAll());
  const std::string script = PathFor("reader") + ".py";
  Spill(script, R"(
import json, struct, sys
data = open(sys.argv[1], "rb").read()
length = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + length])
def read(name, code):
    begin, end = header[name]["data_offsets"]
    return list(struct.unpack("<" + code, data[8 + length + begin:8 + length + end]))
assert (8 + length) % 8 == 0
assert header["__metadata__"] == {"step": "12", "who": "\"\u00fc\"\n"}
assert header["ints"]["dtype"] == "I32" and header["ints"]["shape"] == [1, 1, 3]
assert read("z.floats", "5f")[:4] == [1.5, -2, 3, 4] and read("longs", "2q") == [1 << 50, -1]
assert read("none", "") == [] and read("ints", "3i") == [7, 8, -9] and read("scalar", "d") == [0.1]
)");
  EXPECT_EQ(std::system(absl::StrCat("python3 '", script, "' '", path_, "'").c_str()), 0);
  std::filesystem::remove(script);
}

TEST_F(TensorStore, WriterAbortsOnWrongOrderTypeAndMissingTensors) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto writer = TensorFileWriter::Create(path_, Specs(), {}).value();
  EXPECT_DEATH(static_cast<void>(writer->Write("longs", Tensor::Of(longs_, {2}))), "out of order");
  EXPECT_DEATH(static_cast<void>(writer->Write("z.floats", Tensor::Of(floats_, {5}))),
               "must be float32.5, 1., found float32.5.");
  EXPECT_DEATH(static_cast<void>(writer->Finish().status()), "'z.floats' is missing");
}

}  // namespace
}  // namespace unipool
