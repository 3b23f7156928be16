#include "launch/checkpoint/pieces.h"

#include <algorithm>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/checkpoint.pb.h"
#include "runtime/status.h"
#include "runtime/tensor_store.h"

namespace unipool {
namespace {

using config::Manifest;

// Assigns replicated parameters, largest first, to the rank with the fewest elements so far. All
// ranks compute the same assignment.
std::set<const Parameter*> MyReplicated(const ParameterList& parameters, const World& world) {
  std::vector<const Parameter*> replicated;
  for (const Parameter& parameter : parameters.parameters()) {
    if (parameter.kind != ParameterKind::kExpert) replicated.push_back(&parameter);
  }
  std::stable_sort(replicated.begin(), replicated.end(),
                   [](const Parameter* a, const Parameter* b) { return a->numel() > b->numel(); });
  std::vector<int64_t> dealt(world.size());
  std::set<const Parameter*> mine;
  for (const Parameter* parameter : replicated) {
    const auto least = std::min_element(dealt.begin(), dealt.end());
    *least += parameter->numel();
    if (least - dealt.begin() == world.rank()) mine.insert(parameter);
  }
  return mine;
}

// Ranks that hold copies of the same experts take turns.
std::set<const Parameter*> MyExperts(const ParameterList& parameters, const World& world) {
  const Communicator& replicas = world.groups().expert_data();
  std::set<const Parameter*> mine;
  int turn = 0;
  for (const Parameter& parameter : parameters.parameters()) {
    if (parameter.kind != ParameterKind::kExpert) continue;
    if (turn++ % replicas.size() == replicas.rank()) mine.insert(&parameter);
  }
  return mine;
}

// A file that is being written.
struct PartFile {
  std::string name;
  std::vector<const Piece*> pieces;
  std::unique_ptr<TensorFileWriter> writer = nullptr;
};

absl::Status WriteTensors(const std::string& folder, PartFile* file) {
  std::vector<TensorSpec> specs;
  for (const Piece* piece : file->pieces) {
    const Tensor& value = piece->value;
    specs.push_back({piece->name(), DType::kFloat32,
                     std::vector<int64_t>(value.dims, value.dims + value.rank)});
  }
  ASSIGN_OR_RETURN(file->writer, TensorFileWriter::Create(absl::StrCat(folder, "/", file->name),
                                                          specs, {{"format", "pt"}}));
  for (const Piece* piece : file->pieces) {
    RETURN_IF_ERROR(file->writer->Write(piece->name(), piece->value));
  }
  return absl::OkStatus();
}

absl::Status FinishFile(const PartFile& file, Manifest* part) {
  ASSIGN_OR_RETURN(const FileDigest digest, file.writer->Finish());
  Manifest::File* entry = part->add_files();
  entry->set_name(file.name);
  entry->set_bytes(digest.bytes);
  entry->set_xxh3_128(digest.xxh3_128);
  entry->set_header_xxh3_128(file.writer->header_hash());
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const Piece& piece = *file.pieces[i];
    Manifest::StoredTensor* tensor = part->add_tensors();
    tensor->set_parameter(piece.parameter->name);
    tensor->set_part(piece.part);
    tensor->set_name(piece.name());
    tensor->set_file(file.name);
    tensor->set_begin(piece.begin);
    tensor->set_end(piece.end);
    tensor->set_xxh3_128(file.writer->tensor_hashes()[i]);
  }
  return absl::OkStatus();
}

}  // namespace

std::string Piece::name() const {
  if (part == Manifest::WEIGHT) return parameter->name;
  std::string name =
      absl::StrCat(parameter->name, part == Manifest::EXP_AVG ? ".exp_avg" : ".exp_avg_sq");
  const bool whole = begin == 0 && end == parameter->numel();
  if (!whole) absl::StrAppend(&name, "[", begin, ":", end, "]");
  return name;
}

std::vector<Piece> PiecesOf(const ParameterList& parameters, const Optimizer& optimizer,
                            const World& world) {
  const std::set<const Parameter*> replicated = MyReplicated(parameters, world);
  const std::set<const Parameter*> experts = MyExperts(parameters, world);
  std::vector<Piece> pieces;
  for (const Parameter& parameter : parameters.parameters()) {
    if (replicated.count(&parameter) + experts.count(&parameter) == 0) continue;
    pieces.push_back({&parameter, Manifest::WEIGHT, 0, parameter.numel(), parameter.value});
  }
  for (const MomentSlice& slice : optimizer.Moments()) {
    const Parameter* parameter = slice.parameter;
    if (parameter->kind == ParameterKind::kExpert && experts.count(parameter) == 0) continue;
    const auto add = [&](Manifest::Part part, Tensor value) {
      const bool whole = value.numel() == parameter->numel();
      if (whole) {  // then the moment has the parameter's shape
        const Tensor& shape = parameter->value;
        value.rank = shape.rank;
        std::copy(shape.dims, shape.dims + shape.rank, value.dims);
      }
      pieces.push_back({parameter, part, slice.begin, slice.end, value});
    };
    add(Manifest::EXP_AVG, slice.m);
    add(Manifest::EXP_AVG_SQ, slice.v);
  }
  return pieces;
}

// Waits for the disk only after all files are written, so that it stores one file while the next is
// hashed and copied.
absl::StatusOr<Manifest> WritePieces(const std::string& folder, int rank,
                                     const std::vector<Piece>& pieces) {
  PartFile files[] = {{absl::StrFormat("model-%05d.safetensors", rank), {}},
                      {absl::StrFormat("optimizer-%05d.safetensors", rank), {}}};
  for (const Piece& piece : pieces) {
    files[piece.part == Manifest::WEIGHT ? 0 : 1].pieces.push_back(&piece);
  }
  for (PartFile& file : files) {
    if (!file.pieces.empty()) RETURN_IF_ERROR(WriteTensors(folder, &file));
  }
  Manifest part;
  for (const PartFile& file : files) {
    if (!file.pieces.empty()) RETURN_IF_ERROR(FinishFile(file, &part));
  }
  return part;
}

}  // namespace unipool
