// Trains a tiny UniPool through the libraries: writes a corpus to FOLDER, trains 20 steps on it and
// prints each. Exit status 0 if the validation loss fell by at least 1 nat per token, else 1.
// usage: [launch/mpirun.sh -np 2] train_from_cxx FOLDER
#include <iostream>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "data/indexed_dataset.h"
#include "launch/config/run_config.h"
#include "launch/train/trainer.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// 60 documents of 200 bytes, in which each byte follows from the one before; 256 ends a document.
absl::Status WriteCorpus(const std::string& prefix) {
  ASSIGN_OR_RETURN(auto writer, IndexedDatasetWriter::Create(prefix, /*vocab=*/257));
  for (int document = 0; document < 60; ++document) {
    std::vector<int32_t> ids;
    for (int i = 0; i < 200; ++i) ids.push_back('a' + (document + 7 * i) % 26);
    ids.push_back(256);
    RETURN_IF_ERROR(writer->AddDocument(ids));
  }
  return writer->Finish();
}

absl::Status Train(const std::string& folder) {
  // Fields of configs/run.proto; a config file may be given too.
  std::vector<std::string> fields = {
      "steps=20",         "model.vocab=257",    "model.hidden=32",         "model.layers=2",
      "model.heads=2",    "model.sequence=32",  "model.init_std=0.05",     "pool.experts=8",
      "schedule.lr=0.02", "data.split=90,10,0", "data.global_batch=8",     "pool.router_c=2.68",
      "eval.sequences=8", "pool.pool_loss=0",   "schedule.warmup_steps=2", "parallel.device=CPU"};
  fields.push_back("data.prefix=" + folder + "/text");
  std::vector<std::string> warnings;  // of fields under former names
  ASSIGN_OR_RETURN(const config::Run run, LoadRunConfig("", fields, &warnings));
  ASSIGN_OR_RETURN(const auto world, World::Create(run));
  RETURN_IF_ERROR(world->Agree(world->is_first() ? WriteCorpus(folder + "/text") : absl::Status()));
  ASSIGN_OR_RETURN(const auto corpus, Corpus::Open(run.data()));
  ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(run, *corpus, *world));
  std::vector<double> losses;
  RETURN_IF_ERROR(trainer->Run([&](const StepRecord& record) {
    if (world->is_first()) std::cout << ToJson(record) << std::endl;
    if (record.validation.has_value()) losses.push_back(record.validation->loss);
    return absl::OkStatus();
  }));
  const bool has_learned = losses.size() == 2 && losses[1] < losses[0] - 1;
  return has_learned ? absl::OkStatus() : absl::InternalError("the loss did not fall by 1");
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  const unipool::MpiSession mpi;  // starts MPI if a launcher of MPI started this process
  const absl::Status status = unipool::Train(argc > 1 ? argv[1] : ".");
  if (!status.ok()) std::cerr << "train_from_cxx: " << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
