#include "launch/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "google/protobuf/text_format.h"
#include "launch/files.h"
#include "runtime/status.h"
#include "runtime/tensor_store.h"

namespace unipool {
namespace {

constexpr int kFormatVersion = 1;

std::string ModelFile(int rank) { return absl::StrFormat("model-%05d.safetensors", rank); }

// Ranks of the first replica hold each expert once; rank 0 also writes what all ranks hold.
std::vector<const Parameter*> OwnParameters(const ParameterList& parameters, const World& world) {
  std::vector<const Parameter*> own;
  const bool first_replica = world.groups().expert_data().rank() == 0;
  for (const Parameter& parameter : parameters.parameters()) {
    const bool expert = parameter.kind == ParameterKind::kExpert;
    if (expert ? first_replica : world.is_first()) own.push_back(&parameter);
  }
  return own;
}

absl::StatusOr<FileDigest> WriteModelFile(const std::string& path,
                                          const std::vector<const Parameter*>& own) {
  std::vector<TensorSpec> specs;
  for (const Parameter* parameter : own) {
    specs.push_back({parameter->name, DType::kFloat32, parameter->shape});
  }
  ASSIGN_OR_RETURN(auto writer, TensorFileWriter::Create(path, specs, {{"format", "pt"}}));
  for (const Parameter* parameter : own) {
    RETURN_IF_ERROR(writer->Write(parameter->name, parameter->value));
  }
  return writer->Finish();
}

// Every rank's digest, by rank; empty hashes for ranks that wrote nothing. Collective.
std::vector<FileDigest> GatherDigests(const World& world, const FileDigest& mine) {
  constexpr size_t kHexDigits = 32;
  struct Packed {
    int64_t bytes;
    char hex[kHexDigits];
  };
  static_assert(sizeof(Packed) % sizeof(int64_t) == 0);
  constexpr int64_t kWords = sizeof(Packed) / sizeof(int64_t);
  Packed packed{mine.bytes, {}};
  std::memcpy(packed.hex, mine.xxh3_128.data(), std::min(mine.xxh3_128.size(), kHexDigits));
  std::vector<int64_t> words(kWords * world.size());
  world.groups().world().AllGather(Tensor::Of(reinterpret_cast<int64_t*>(&packed), {kWords}),
                                   Tensor::Of(words.data(), {kWords * world.size()}),
                                   *Stream::Create(Device{}));
  std::vector<FileDigest> digests(world.size());
  for (int rank = 0; rank < world.size(); ++rank) {
    Packed theirs;
    std::memcpy(&theirs, words.data() + kWords * rank, sizeof(theirs));
    digests[rank] = {theirs.bytes, std::string(theirs.hex, strnlen(theirs.hex, kHexDigits))};
  }
  return digests;
}

absl::Status WriteManifest(const std::string& folder, const config::Run& run, int64_t step,
                           const World& world, const std::vector<FileDigest>& digests) {
  config::Manifest manifest;
  manifest.set_format_version(kFormatVersion);
  manifest.set_step(step);
  *manifest.mutable_run() = run;
  manifest.set_ranks(world.size());
  manifest.set_expert_ranks(world.groups().expert().size());
  for (int rank = 0; rank < world.size(); ++rank) {
    if (digests[rank].bytes == 0) continue;
    config::Manifest::File* file = manifest.add_files();
    file->set_name(ModelFile(rank));
    file->set_bytes(digests[rank].bytes);
    file->set_xxh3_128(digests[rank].xxh3_128);
  }
  std::string text;
  google::protobuf::TextFormat::PrintToString(manifest, &text);
  return WriteFileAtomically(folder + "/manifest.textproto", text);
}

// What a killed run left under this name is not part of what comes.
absl::Status MakeEmptyFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (!error) return MakeFolders(path);
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": cannot be removed: ", error.message()));
}

// Rank 0 alone: the folder gets its final name, and `latest` names it.
absl::Status Publish(const std::string& checkpoints, const std::string& temporary,
                     const std::string& name) {
  RETURN_IF_ERROR(SyncFolder(temporary));
  const std::string folder = checkpoints + "/" + name;
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  std::filesystem::rename(temporary, folder, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": the checkpoint cannot be given its name: ", error.message()));
  }
  absl::Status status = SyncFolder(checkpoints);
  if (status.ok()) status = WriteFileAtomically(checkpoints + "/latest", name + "\n");
  if (!status.ok()) std::filesystem::remove_all(folder, error);
  return status;
}

}  // namespace

absl::StatusOr<std::string> SaveWeights(const std::string& checkpoints, const config::Run& run,
                                        int64_t step, const ParameterList& parameters,
                                        const World& world) {
  const std::string name = absl::StrFormat("step_%08d", step);
  const std::string temporary = absl::StrCat(checkpoints, "/", name, ".tmp");
  const auto cleaned = [&](absl::Status status) {
    std::error_code ignored;
    if (world.is_first()) std::filesystem::remove_all(temporary, ignored);
    return status;
  };
  absl::Status status =
      world.Agree(world.is_first() ? MakeEmptyFolder(temporary) : absl::OkStatus());
  if (!status.ok()) return cleaned(status);

  FileDigest digest{};
  const std::vector<const Parameter*> own = OwnParameters(parameters, world);
  if (!own.empty()) {
    absl::StatusOr<FileDigest> written =
        WriteModelFile(absl::StrCat(temporary, "/", ModelFile(world.rank())), own);
    if (written.ok()) digest = *written;
    status = written.status();
  }
  status = world.Agree(status);
  if (!status.ok()) return cleaned(status);

  const std::vector<FileDigest> digests = GatherDigests(world, digest);
  if (world.is_first()) {
    status = WriteManifest(temporary, run, step, world, digests);
    if (status.ok()) status = Publish(checkpoints, temporary, name);
  }
  status = world.Agree(status);
  if (!status.ok()) return cleaned(status);
  return absl::StrCat(checkpoints, "/", name);
}

}  // namespace unipool
