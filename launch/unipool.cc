// main: sets up logging and runs the command that the first argument names.
#include <glog/logging.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "comm/mpi_communicator.h"
#include "data/mapped_file.h"
#include "launch/commands/command.h"
#include "launch/commands/commands.h"
#include "launch/world/exit_codes.h"
#include "launch/world/library_environment.h"
#include "launch/world/process_limits.h"
#include "launch/world/signals.h"
#include "launch/world/world.h"

namespace unipool {

namespace {

// Log lines carry the rank. A fatal error ends all ranks without a stack trace.
void LogPrefix(std::ostream& stream, const google::LogMessageInfo& info, void*) {
  stream << absl::StreamFormat("%c%02d:%02d:%02d.%06d rank %d %s:%d]", info.severity[0],
                               info.time.hour(), info.time.min(), info.time.sec(), info.time.usec(),
                               LaunchRank(), info.filename, info.line_number);
}

// The attribute, unlike [[noreturn]], is part of the type that glog expects.
__attribute__((noreturn)) void EndAllRanks() {
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

bool CpuIsSupported() {
#if defined(__x86_64__) && defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

// True if standard output is a pipe whose reader has gone. A run then prints no progress; what it
// trains is not affected.
bool HasLostItsReader() {
  pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

int Main(int argc, char** argv) {
  if (!CpuIsSupported()) {
    std::fputs(
        "unipool: this CPU lacks AVX2 and FMA, which the program was built for; build it here with "
        "cmake -DUNIPOOL_MARCH=native\n",
        stderr);
    return kExitFailure;
  }
  SetLibraryEnvironment(argv);
  ReportUncaughtExceptions();
  IgnoreFileSizeSignal();
  StartLogging(argv[0]);
  MappedFile::ExitOnLostPage(kExitFailure);
  const std::vector<Command> commands = AllCommands();
  std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  if (args.empty()) {
    if (LaunchRank() == 0) std::fputs(ProgramHelp(commands).c_str(), stderr);
    return kExitBadInput;
  }
  if (args[0] == "--help" || args[0] == "-h") args[0] = "help";
  if (args[0] == "--version") args[0] = "version";
  return RunCommand(commands, args);
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  const int status = unipool::Main(argc, argv);
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good()) return status;
  if (unipool::HasLostItsReader()) return status;
  std::fputs("unipool: the standard output cannot be written\n", stderr);
  return status == unipool::kExitDone ? unipool::kExitFailure : status;
}
