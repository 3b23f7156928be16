#include "launch/checkpoint/export.h"

#include <utility>
#include <vector>

#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/status.h"
#include "runtime/tensor_store.h"

namespace unipool {
namespace {

using config::Manifest;

Json RouterJson(const config::Run& run, float c) {
  const config::Pool& pool = run.pool();
  return {{"type", config::Pool::Router_Name(pool.router())},
          {"top_k", pool.top_k()},
          {"eps", pool.router_eps()},
          {"c", c}};
}

std::string ConfigJson(const Checkpoint& checkpoint, DType dtype) {
  const config::Run run = checkpoint.run();
  const config::Model& model = run.model();
  Json json = {{"model_type", "unipool"},
               {"dtype", dtype == DType::kFloat32 ? "float32" : "bfloat16"},
               {"step", checkpoint.step()},
               {"vocab_size", model.vocab()},
               {"hidden_size", model.hidden()},
               {"num_hidden_layers", model.layers()},
               {"num_attention_heads", model.heads()},
               {"num_key_value_heads", model.kv_heads()},
               {"head_dim", model.head_dim()},
               {"intermediate_size", model.ffn()},
               {"max_position_embeddings", model.sequence()},
               {"rope_theta", model.rope_base()},
               {"rms_norm_eps", model.norm_eps()},
               {"hidden_act", "silu"},
               {"tie_word_embeddings", false}};
  if (model.ffn_kind() == config::Model::MOE) {
    std::vector<int64_t> pool_of_layer;
    for (int64_t layer = 0; layer < model.layers(); ++layer) {
      pool_of_layer.push_back(layer / run.pool().layers_per_pool());
    }
    json["num_pools"] = model.layers() / run.pool().layers_per_pool();
    json["experts_per_pool"] = run.pool().experts();
    json["pool_of_layer"] = pool_of_layer;
    json["router"] = RouterJson(run, checkpoint.manifest().router_c());
  }
  return json.Dump(2) + "\n";
}

absl::Status WriteTensor(const std::string& name, const std::vector<int64_t>& shape, DType dtype,
                         std::vector<float> values, TensorFileWriter* writer) {
  std::vector<BFloat16> rounded;
  Tensor tensor = Tensor::Of(values.data(), {});
  if (dtype == DType::kBFloat16) {
    for (const float value : values) rounded.push_back(BFloat16::From(value));
    tensor = Tensor::Of(rounded.data(), {});
  }
  tensor.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.dims);
  return writer->Write(name, tensor);
}

}  // namespace

absl::Status ExportCheckpoint(const Checkpoint& checkpoint, DType dtype,
                              const std::string& output) {
  std::vector<TensorSpec> specs;
  for (const Manifest::StoredTensor& tensor : checkpoint.manifest().tensors()) {
    if (tensor.part() != Manifest::WEIGHT) continue;
    ASSIGN_OR_RETURN(std::vector<int64_t> shape, checkpoint.ShapeOf(tensor.parameter()));
    specs.push_back({tensor.parameter(), dtype, std::move(shape)});
  }
  RETURN_IF_ERROR(MakeFolders(output));
  ASSIGN_OR_RETURN(auto writer, TensorFileWriter::Create(output + "/model.safetensors", specs,
                                                         {{"format", "pt"}}));
  for (const TensorSpec& spec : specs) {
    ASSIGN_OR_RETURN(std::vector<float> values, checkpoint.ReadFlat(spec.name, Manifest::WEIGHT));
    RETURN_IF_ERROR(WriteTensor(spec.name, spec.shape, dtype, std::move(values), writer.get()));
  }
  RETURN_IF_ERROR(writer->Finish().status());
  return WriteFileAtomically(output + "/config.json", ConfigJson(checkpoint, dtype));
}

}  // namespace unipool
