#include "launch/checkpoint/reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/run_folder.h"
#include "runtime/content_hash.h"
#include "runtime/copy.h"
#include "runtime/files.h"
#include "runtime/quote.h"
#include "runtime/status.h"
#include "runtime/tensor_store.h"

namespace unipool {
namespace {

using config::Manifest;

// Memory for elements [begin, end) of a parameter or of a moment.
struct Target {
  const Parameter* parameter;
  Manifest::Part part;
  int64_t begin;
  int64_t end;
  Tensor out;
};

absl::Status Damaged(const std::string& path, const std::string& what, const std::string& expected,
                     const std::string& found) {
  return absl::DataLossError(absl::StrCat(path, ": ", what, " is damaged: expected xxh3_128 ",
                                          CutInput(expected), ", found ", found,
                                          "; use another checkpoint"));
}

// The files of one checkpoint, which are opened and checked on first use. For one thread.
class Files {
 public:
  explicit Files(const Checkpoint& checkpoint) : folder_(checkpoint.folder()) {
    for (const Manifest::File& file : checkpoint.manifest().files()) table_[file.name()] = &file;
  }

  // Hashes a whole stored tensor. If `out` is not null, also copies elements [begin, end) of its
  // parameter to it.
  absl::Status Read(const Manifest::StoredTensor& tensor, int64_t begin, int64_t end, float* out) {
    ASSIGN_OR_RETURN(const TensorFile* file, Open(tensor.file()));
    const std::string path = absl::StrCat(folder_, "/", tensor.file());
    ASSIGN_OR_RETURN(const TensorInfo info, file->Info(tensor.name()));
    const int64_t wanted = NumElements(tensor) * int64_t{sizeof(float)};
    if (info.dtype != DType::kFloat32 || info.bytes != wanted) {
      return absl::DataLossError(absl::StrCat(path, ": tensor '", tensor.name(), "': expected ",
                                              NumElements(tensor), " F32, found ", info.bytes,
                                              " bytes of ", Name(info.dtype)));
    }
    const int64_t first = std::max(begin - tensor.begin(), int64_t{0}) * int64_t{sizeof(float)};
    const int64_t last = (std::min(end, tensor.end()) - tensor.begin()) * int64_t{sizeof(float)};
    float* const at = out == nullptr ? nullptr : out + std::max(tensor.begin() - begin, int64_t{0});
    const Wanted wanted_bytes{first, at == nullptr ? first : last, reinterpret_cast<char*>(at)};
    ASSIGN_OR_RETURN(const std::string hash,
                     HashAndCopy(*file, tensor.name(), info.bytes, wanted_bytes));
    if (hash == tensor.xxh3_128()) return absl::OkStatus();
    return Damaged(path, absl::StrCat("tensor '", tensor.name(), "'"), tensor.xxh3_128(), hash);
  }

  // OK if the stored tensor has the shape of the parameter.
  absl::Status CheckShape(const Manifest::StoredTensor& tensor, const Parameter& parameter) {
    ASSIGN_OR_RETURN(const TensorFile* file, Open(tensor.file()));
    ASSIGN_OR_RETURN(const TensorInfo info, file->Info(tensor.name()));
    if (info.shape == parameter.shape) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        folder_, "/", tensor.file(), ": tensor '", tensor.name(), "': expected shape [",
        absl::StrJoin(parameter.shape, ", "), "], found [", absl::StrJoin(info.shape, ", "), "]"));
  }

  // Opens a file and checks its size and header. Tensors are checked when they are read.
  absl::StatusOr<const TensorFile*> Open(const std::string& name) {
    if (const auto found = open_.find(name); found != open_.end()) return found->second.get();
    const Manifest::File& entry = *table_.at(name);
    const std::string path = absl::StrCat(folder_, "/", name);
    struct stat status;
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return absl::DataLossError(
          absl::StrCat(path, ": expected a file of ", entry.bytes(), " bytes, found none"));
    }
    if (status.st_size != entry.bytes()) {
      return absl::DataLossError(
          absl::StrCat(path, ": expected ", entry.bytes(), " bytes, found ", status.st_size));
    }
    ASSIGN_OR_RETURN(auto file, TensorFile::Open(path));
    const std::string hash = ContentHash::Of(file->header());
    if (hash != entry.header_xxh3_128()) {
      return Damaged(path, "the header", entry.header_xxh3_128(), hash);
    }
    return (open_[name] = std::move(file)).get();
  }

 private:
  // Bytes [first, last) of a tensor and the memory to copy them to.
  struct Wanted {
    int64_t first;
    int64_t last;
    char* out;
  };

  // Works in chunks, so that hashing finds the bytes in cache. A chunk that is wanted as a whole is
  // read directly to its destination.
  absl::StatusOr<std::string> HashAndCopy(const TensorFile& file, const std::string& name,
                                          int64_t size, const Wanted& wanted) {
    constexpr int64_t kChunk = int64_t{1} << 20;
    ContentHash hash;
    for (int64_t at = 0, end; at < size; at = end) {
      end = std::min(at + kChunk, size);
      const int64_t from = std::max(at, wanted.first), to = std::min(end, wanted.last);
      const bool whole = from == at && to == end;
      if (!whole) chunk_.resize(kChunk);
      char* const bytes = whole ? wanted.out + (at - wanted.first) : chunk_.data();
      RETURN_IF_ERROR(file.ReadBytes(name, at, end - at, bytes));
      hash.Add(bytes, end - at);
      if (whole || from >= to) continue;
      std::memcpy(wanted.out + (from - wanted.first), bytes + (from - at),
                  static_cast<size_t>(to - from));
    }
    return hash.Hex();
  }

  const std::string folder_;
  std::map<std::string, const Manifest::File*> table_;
  std::map<std::string, std::unique_ptr<TensorFile>> open_;
  std::vector<char> chunk_;
};

// Fills targets and records which tensors of the checkpoint they used.
class Loader {
 public:
  explicit Loader(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint),
        files_(checkpoint),
        used_(static_cast<size_t>(checkpoint.manifest().tensors_size())) {
    for (int i = 0; i < checkpoint.manifest().tensors_size(); ++i) {
      const Manifest::StoredTensor& tensor = checkpoint.manifest().tensors(i);
      pieces_[{tensor.parameter(), tensor.part()}].push_back(i);
    }
  }

  absl::Status Fill(const Target& target) {
    const auto found = pieces_.find({target.parameter->name, target.part});
    const std::string what =
        absl::StrCat(target.part == Manifest::WEIGHT ? "weight" : Manifest::Part_Name(target.part),
                     " of '", target.parameter->name, "'");
    if (found == pieces_.end()) {
      return absl::DataLossError(absl::StrCat(checkpoint_.folder(), ": holds no ", what));
    }
    const bool on_host = target.out.device == Device{};
    if (!on_host) staging_.resize(static_cast<size_t>(target.out.numel()));
    float* const out = on_host ? target.out.as<float>() : staging_.data();
    int64_t covered = 0;
    for (const int i : found->second) {
      const Manifest::StoredTensor& tensor = checkpoint_.manifest().tensors(i);
      covered += NumElements(tensor);
      if (tensor.end() <= target.begin || target.end <= tensor.begin()) continue;
      if (target.part == Manifest::WEIGHT) {
        RETURN_IF_ERROR(files_.CheckShape(tensor, *target.parameter));
      }
      RETURN_IF_ERROR(files_.Read(tensor, target.begin, target.end, out));
      used_[i] = 1;
    }
    if (covered == target.parameter->numel()) {
      if (!on_host) WriteTensor(out, target.out);
      return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat(checkpoint_.folder(), ": ", what, ": expected ",
                                            target.parameter->numel(), " elements, found ",
                                            covered));
  }

  // DATA_LOSS if there is a tensor that no rank used. Collective.
  absl::Status CheckAllUsed(bool weights_only, const World& world) {
    const std::unique_ptr<Stream> stream = Stream::Create(Device{});
    if (!used_.empty()) {
      const auto size = static_cast<int64_t>(used_.size());
      world.groups().world().AllReduce(Tensor::Of(used_.data(), {size}), ReduceOp::kMax, *stream);
    }
    for (size_t i = 0; i < used_.size(); ++i) {
      const Manifest::StoredTensor& tensor = checkpoint_.manifest().tensors(static_cast<int>(i));
      if (used_[i] != 0 || (weights_only && tensor.part() != Manifest::WEIGHT)) continue;
      return absl::DataLossError(
          absl::StrCat(checkpoint_.folder(), "/", tensor.file(), ": holds '", tensor.name(),
                       "', which is no parameter of this run; use another checkpoint"));
    }
    return absl::OkStatus();
  }

 private:
  const Checkpoint& checkpoint_;
  Files files_;
  std::vector<int32_t> used_;   // by index in the manifest
  std::vector<float> staging_;  // host copy of a target on a GPU
  std::map<std::pair<std::string, int>, std::vector<int>> pieces_;
};

absl::Status FillWeights(Loader& loader, const ParameterList& parameters) {
  for (const Parameter& parameter : parameters.parameters()) {
    RETURN_IF_ERROR(
        loader.Fill({&parameter, Manifest::WEIGHT, 0, parameter.numel(), parameter.value}));
  }
  return absl::OkStatus();
}

absl::Status RestoreStatistics(const Checkpoint& checkpoint, const TrainingState& state, int rank) {
  const Manifest& manifest = checkpoint.manifest();
  const bool local = state.run.pool().statistics() == config::Pool::LOCAL;
  if (local && manifest.local_statistics_size() != manifest.ranks()) {
    return absl::DataLossError(absl::StrCat(checkpoint.folder(), ": local_statistics: expected ",
                                            "those of ", manifest.ranks(), " ranks, found ",
                                            manifest.local_statistics_size()));
  }
  LoadStatistics& statistics = state.model.statistics();
  absl::Span<const int64_t> counts[2];  // of the step, of the rank's micro-batch
  counts[0] = absl::MakeConstSpan(manifest.statistics().counts().data(),
                                  manifest.statistics().counts_size());
  if (local) {
    const auto& mine = manifest.local_statistics(rank % manifest.ranks());
    counts[1] = absl::MakeConstSpan(mine.counts().data(), mine.counts_size());
  }
  for (const auto& of : counts) {
    if (of.empty() || static_cast<int64_t>(of.size()) == statistics.state_size()) continue;
    return absl::DataLossError(absl::StrCat(checkpoint.folder(), ": statistics: expected ",
                                            statistics.state_size(), " counts, found ", of.size()));
  }
  const auto& unrouted = manifest.statistics().unrouted_choices();
  if (!unrouted.empty() && unrouted.size() != statistics.state_size() - 1) {
    return absl::DataLossError(absl::StrCat(checkpoint.folder(), ": unrouted_choices: expected ",
                                            statistics.state_size() - 1, " counts, found ",
                                            unrouted.size()));
  }
  statistics.Restore({.step = counts[0],
                      .micro_batch = counts[1],
                      .step_unrouted_choices = absl::MakeConstSpan(
                          unrouted.data(), static_cast<size_t>(unrouted.size()))});
  return absl::OkStatus();
}

absl::Status FillAll(Loader& loader, const Checkpoint& checkpoint, const TrainingState& state,
                     int rank) {
  const Manifest& manifest = checkpoint.manifest();
  if (manifest.router_c() != state.model.router_c()) {
    return absl::DataLossError(absl::StrCat(checkpoint.folder(),
                                            ": router_c = ", manifest.router_c(), ": expected ",
                                            state.model.router_c()));
  }
  RETURN_IF_ERROR(FillWeights(loader, state.parameters));
  for (const MomentSlice& slice : state.optimizer.Moments()) {
    const Target target{slice.parameter, Manifest::EXP_AVG, slice.begin, slice.end, slice.m};
    RETURN_IF_ERROR(loader.Fill(target));
    RETURN_IF_ERROR(
        loader.Fill({slice.parameter, Manifest::EXP_AVG_SQ, slice.begin, slice.end, slice.v}));
  }
  return RestoreStatistics(checkpoint, state, rank);
}

}  // namespace

Checkpoint::Checkpoint(std::string folder, const Manifest& manifest)
    : folder_(std::move(folder)), manifest_(std::make_unique<Manifest>(manifest)) {}
Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;

int64_t Checkpoint::step() const { return manifest_->step(); }

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& folder) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(folder));
  const int64_t named = StepOfName(folder.substr(folder.rfind('/') + 1));
  if (named >= 0 && named != manifest.step()) {
    return absl::DataLossError(absl::StrCat(folder, "/", kManifestName, ": is of step ",
                                            manifest.step(), ", in a folder of step ", named));
  }
  return Checkpoint(folder, manifest);
}

config::Run Checkpoint::run() const {
  config::Run run = manifest_->run();
  if (manifest_->router_c() != 0) run.mutable_pool()->set_router_c(manifest_->router_c());
  return run;
}

absl::Status Checkpoint::Verify() const {
  Files files(*this);
  for (const Manifest::StoredTensor& tensor : manifest_->tensors()) {
    RETURN_IF_ERROR(files.Read(tensor, 0, 0, nullptr));
  }
  for (const Manifest::File& file : manifest_->files()) {
    const std::string path = absl::StrCat(folder_, "/", file.name());
    ASSIGN_OR_RETURN(const FileDigest digest, DigestFile(path));
    if (digest.xxh3_128 == file.xxh3_128()) continue;
    return Damaged(path, "the file", file.xxh3_128(), digest.xxh3_128);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> Checkpoint::ReadFlat(const std::string& parameter,
                                                        Manifest::Part part) const {
  Files files(*this);
  std::vector<float> values;
  std::vector<const Manifest::StoredTensor*> pieces;
  for (const Manifest::StoredTensor& tensor : manifest_->tensors()) {
    if (tensor.parameter() != parameter || tensor.part() != part) continue;
    pieces.push_back(&tensor);
    RETURN_IF_ERROR(files.Open(tensor.file()).status());  // its size bounds the memory
    values.resize(std::max<size_t>(values.size(), tensor.end()));
  }
  if (pieces.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder_, ": holds no ", Manifest::Part_Name(part), " of '", parameter, "'"));
  }
  for (const Manifest::StoredTensor* piece : pieces) {
    RETURN_IF_ERROR(files.Read(*piece, 0, static_cast<int64_t>(values.size()), values.data()));
  }
  return values;
}

absl::StatusOr<std::vector<int64_t>> Checkpoint::ShapeOf(const std::string& parameter) const {
  Files files(*this);
  for (const Manifest::StoredTensor& tensor : manifest_->tensors()) {
    if (tensor.parameter() != parameter || tensor.part() != Manifest::WEIGHT) continue;
    ASSIGN_OR_RETURN(const TensorFile* file, files.Open(tensor.file()));
    ASSIGN_OR_RETURN(const TensorInfo info, file->Info(tensor.name()));
    if (static_cast<int>(info.shape.size()) <= Tensor::kMaxRank) return info.shape;
    return absl::DataLossError(absl::StrCat(folder_, "/", tensor.file(), ": a tensor has ",
                                            info.shape.size(), " dimensions, expected at most ",
                                            Tensor::kMaxRank, "; use another checkpoint"));
  }
  return absl::NotFoundError(absl::StrCat(folder_, ": holds no weight of '", parameter, "'"));
}

absl::StatusOr<std::vector<std::string>> CheckpointsToTry(const std::string& path) {
  std::string folder = path;
  while (folder.size() > 1 && absl::EndsWith(folder, "/")) folder.pop_back();
  for (const std::string& of_one : {folder, RunFolder(folder).checkpoints()}) {
    ASSIGN_OR_RETURN(const bool is_one, Exists(absl::StrCat(of_one, "/", kManifestName)));
    if (is_one) return std::vector<std::string>{of_one};
  }
  if (absl::EndsWith(folder, "/latest")) folder = std::string(absl::StripSuffix(folder, "/latest"));
  for (const std::string& of_many : {folder, RunFolder(folder).checkpoints()}) {
    std::string warning;
    ASSIGN_OR_RETURN(const std::vector<int64_t> steps, StepsToTry(of_many, &warning));
    std::vector<std::string> folders;
    for (const int64_t step : steps) folders.push_back(CheckpointPath(of_many, step));
    if (!folders.empty()) return folders;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": holds no checkpoint; give a run folder or the folder of a checkpoint"));
}

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<std::string> folders, CheckpointsToTry(path));
  return Checkpoint::Open(folders.front());
}

absl::Status LoadParameters(const Checkpoint& checkpoint, ParameterList& parameters,
                            const World& world) {
  Loader loader(checkpoint);
  RETURN_IF_ERROR(world.Agree(FillWeights(loader, parameters)));
  return loader.CheckAllUsed(/*weights_only=*/true, world);
}

absl::Status LoadState(const Checkpoint& checkpoint, const TrainingState& state,
                       const World& world) {
  Loader loader(checkpoint);
  RETURN_IF_ERROR(world.Agree(FillAll(loader, checkpoint, state, world.rank())));
  return loader.CheckAllUsed(/*weights_only=*/false, world);
}

}  // namespace unipool
