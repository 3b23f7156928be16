// Fuzzes the manifest of a checkpoint: the bytes as they are, and, if they parse as the text of the
// message, rewritten with a valid hash, as they are and with extreme numbers in two of the fields.
// An accepted manifest must have valid tensor sizes, and its readers must not fail on it.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "configs/checkpoint.pb.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "launch/checkpoint/export.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/reader.h"
#include "model/footprint.h"
#include "tests/fuzz/fuzz_target.h"

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using unipool::testing::FuzzFile;
using unipool::testing::Require;
using unipool::testing::RequireOneLine;

namespace {

class Silent : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

void CheckRead(const std::string& folder) {
  const auto checkpoint = unipool::Checkpoint::Open(folder);
  if (!checkpoint.ok()) return RequireOneLine(std::string(checkpoint.status().message()));
  const unipool::config::Manifest& manifest = checkpoint->manifest();
  for (const auto& tensor : manifest.tensors()) {
    Require(unipool::NumElements(tensor) >= 0, "a stored tensor has a size");
  }
  const auto plan = unipool::PlanMemory(checkpoint->run(), manifest.ranks(), 0);
  Require(plan.total() >= 0, "a plan has a size");
  Require(!checkpoint->Verify().ok(), "files that are missing are noticed");
  const auto exported =
      unipool::ExportCheckpoint(*checkpoint, unipool::DType::kFloat32, folder + "/out");
  Require(!exported.ok(), "an export needs the files");
}

// Pointers to the message and field of each integer and floating-point number.
using Numbers = std::vector<std::pair<Message*, const FieldDescriptor*>>;

void CollectNumbers(Message* message, Numbers* numbers) {
  const auto* access = message->GetReflection();
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!field->is_repeated() && access->HasField(*message, field)) {
        CollectNumbers(access->MutableMessage(message, field), numbers);
      }
      for (int j = 0; field->is_repeated() && j < access->FieldSize(*message, field); ++j) {
        CollectNumbers(access->MutableRepeatedMessage(message, field, j), numbers);
      }
    } else if (!field->is_repeated() && field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
      numbers->emplace_back(message, field);
    }
  }
}

// Sets a number that two bytes of the input select to an extreme value.
void SetExtreme(uint8_t which, uint8_t value, Message* manifest) {
  static constexpr int64_t kExtremes[] = {0,
                                          1,
                                          -1,
                                          2,
                                          7,
                                          std::numeric_limits<int32_t>::max(),
                                          std::numeric_limits<int32_t>::min(),
                                          std::numeric_limits<int64_t>::max(),
                                          std::numeric_limits<int64_t>::min()};
  Numbers numbers;
  CollectNumbers(manifest, &numbers);
  if (numbers.empty()) return;
  const auto [message, field] = numbers[which * numbers.size() / 256];
  const int64_t extreme = kExtremes[value % std::size(kExtremes)];
  const auto* access = message->GetReflection();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
    access->SetInt64(message, field, extreme);
  } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT32) {
    access->SetInt32(message, field, static_cast<int32_t>(extreme));
  } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    access->SetDouble(message, field, value % 2 == 0 ? NAN : static_cast<double>(extreme));
  } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT) {
    access->SetFloat(message, field, value % 2 == 0 ? INFINITY : static_cast<float>(extreme));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFile folder("");
  static const FuzzFile file("/" + std::string(unipool::kManifestName));
  std::filesystem::create_directories(folder.path());
  file.Fill(data, size);
  CheckRead(folder.path());

  Silent silent;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  unipool::config::Manifest manifest;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (!parser.ParseFromString(text, &manifest)) return 0;
  if (unipool::WriteManifest(folder.path(), manifest).ok()) CheckRead(folder.path());
  for (size_t i = 0; i < 2 && 2 * i + 1 < size; ++i) {
    SetExtreme(data[size - 1 - 2 * i], data[size - 2 - 2 * i], &manifest);
    if (unipool::WriteManifest(folder.path(), manifest).ok()) CheckRead(folder.path());
  }
  return 0;
}
