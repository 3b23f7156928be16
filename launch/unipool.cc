// main: picks the sub-command.
#include <glog/logging.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "comm/mpi_communicator.h"
#include "data/mapped_file.h"
#include "launch/commands/commands.h"
#include "launch/config/nearest_name.h"
#include "launch/world/exit_codes.h"
#include "launch/world/world.h"

namespace unipool {

namespace {

constexpr char kUsage[] =
    "usage: unipool COMMAND [ARGUMENTS]\n"
    "  train         trains a model: --config FILE [--set model.layers=4 ...]\n"
    "  config show   the resolved config, its parameter counts and the memory of each rank\n"
    "  checkpoint    inspect | verify | diff | export\n"
    "  data          prepare | inspect | batch | bigram: token files from text\n"
    "  evaluate      a trained model's loss, its routes, and its accuracy on tasks\n"
    "  score         log-probabilities of the tokens of JSON lines\n"
    "  probe         randomize | reuse | utilization: how layers share experts\n"
    "  bench         step | checkpoint: speed of training, of saving and loading\n"
    "Each command explains itself with --help.\n";

// Logs carry the rank; a fatal error ends all ranks without a stack trace.
void LogPrefix(std::ostream& stream, const google::LogMessageInfo& info, void*) {
  stream << absl::StreamFormat("%c%02d:%02d:%02d.%06d rank %d %s:%d]", info.severity[0],
                               info.time.hour(), info.time.min(), info.time.sec(), info.time.usec(),
                               LaunchRank(), info.filename, info.line_number);
}

[[noreturn]] void EndAllRanks() {
  if (LaunchedByMpi()) AbortMpi(kExitFailure);
  _exit(kExitFailure);
}

void StartLogging(const char* program) {
  FLAGS_stderrthreshold = google::WARNING;
  FLAGS_logtostderr = false;
  for (const auto severity : {google::INFO, google::WARNING, google::ERROR, google::FATAL}) {
    google::SetLogDestination(severity, "");
    google::SetLogSymlink(severity, "");
  }
  google::InitGoogleLogging(program, &LogPrefix);
  google::InstallFailureFunction(&EndAllRanks);
}

bool CpuCanRunThis() {
#if defined(__x86_64__) && defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

int Main(int argc, char** argv) {
  if (!CpuCanRunThis()) {
    std::fputs(
        "unipool: this CPU has no AVX2 and FMA; expected one, or a build with "
        "-DUNIPOOL_MARCH=native\n",
        stderr);
    return kExitFailure;
  }
  StartLogging(argv[0]);
  MappedFile::ExitOnLostPage(kExitFailure);
  const std::vector<std::string> args(argv + std::min(argc, 2), argv + argc);
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "train") return TrainCommand(args);
  if (command == "config") return ConfigCommand(args);
  if (command == "bench") return BenchCommand(args);
  if (command == "checkpoint") return CheckpointCommand(args);
  if (command == "data") return DataCommand(args);
  if (command == "evaluate") return EvaluateCommand(args);
  if (command == "score") return ScoreCommand(args);
  if (command == "probe") return ProbeCommand(args);
  if (command == "--help" || command == "help") {
    std::fputs(kUsage, stdout);
    return kExitDone;
  }
  if (command.empty()) {
    if (LaunchRank() == 0) std::fputs(kUsage, stderr);
    return kExitBadInput;
  }
  const std::vector<std::string> names = {"train", "config", "checkpoint", "data", "evaluate",
                                          "score", "probe",  "bench",      "help"};
  const std::string hint = DidYouMean(command, names);
  return Report(absl::InvalidArgumentError(absl::StrCat("\"", command, "\": unknown command; ",
                                                        hint.empty() ? "" : hint + " ",
                                                        "unipool --help lists all")));
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  const int status = unipool::Main(argc, argv);
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good()) return status;
  std::fputs("unipool: the standard output cannot be written\n", stderr);
  return status == unipool::kExitDone ? unipool::kExitFailure : status;
}
