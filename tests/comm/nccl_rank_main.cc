// A rank that nccl_processes_test starts: joins the others by the environment and runs five steps
// of collectives on its GPU.
//   nccl_rank GPU [die=RANK | sleep=RANK | hide=RANK]
// In step 3 that rank is killed, sleeps, or is killed while the others ignore the messenger, so
// that only NCCL can detect it.
#include <glog/logging.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "comm/gpu_ranks.h"
#include "comm/process_groups.h"
#include "comm/rendezvous.h"
#include "comm/watchdog.h"
#include "runtime/buffer.h"
#include "runtime/copy.h"

namespace unipool {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(5);

int ReportError(const absl::Status& status, int exit_status) {
  std::cerr << status.message() << std::endl;
  return exit_status;
}

void Train(const ProcessGroups& groups, Device gpu, CallLog& log, const std::string& event) {
  const auto stream = Stream::Create(gpu);
  const Buffer memory = Buffer::Allocate(gpu, sizeof(float)).value();
  const Tensor x = Tensor::Of(static_cast<float*>(memory.data()), {1}, gpu);
  const int rank = groups.world().rank();
  for (int step = 1; step <= 5; ++step) {
    log.progress().SetStep(step);
    log.progress().Set("losses");
    if (step == 3 &&
        (event == absl::StrCat("die=", rank) || event == absl::StrCat("hide=", rank))) {
      absl::SleepFor(absl::Milliseconds(300));  // until the others wait for it
      raise(SIGKILL);
    }
    if (step == 3 && event == absl::StrCat("sleep=", rank)) sleep(30);
    float one = 1;
    CopyTensor(Tensor::Of(&one, {1}), x, *stream);
    groups.expert().AllReduce(x, ReduceOp::kSum, *stream);
    groups.expert_data().AllReduce(x, ReduceOp::kSum, *stream);
    ReadTensor(x, &one);
    CHECK_EQ(one, static_cast<float>(groups.world().size()));
  }
}

int Main(int device, const std::string& event) {
  const auto identity = LaunchIdentityFromEnvironment();
  if (!identity.ok()) return ReportError(identity.status(), 2);
  auto rendezvous = Rendezvous::Join(**identity, kDeadline);
  if (!rendezvous.ok()) return ReportError(rendezvous.status(), 76);
  const int rank = (*rendezvous)->rank(), size = (*rendezvous)->size();
  const Device gpu{DeviceType::kCuda, device};
  CallLog log;
  const auto end = [](const std::string& text) {
    std::cerr << text << std::endl;
    std::_Exit(76);
  };
  auto made = MakeGpuRanks(
      **rendezvous,
      {.gpu = gpu, .world_rank = rank, .deadline = kDeadline, .log = &log, .on_error = end});
  if (!made.ok()) return ReportError(made.status(), 2);
  const auto lost = [&, hidden = event.rfind("hide", 0) == 0](int who) {
    if (hidden) return;
    made->session->RecordCompletedCalls();
    end(absl::StrCat("rank ", rank, " lost rank ", who, " in ", log.CurrentActivity()));
  };
  const Watchdog watchdog(log, (*rendezvous)->IntoMessenger(lost),
                          {.rank = rank,
                           .size = size,
                           .hosts = std::vector<std::string>(size, "localhost"),
                           .deadline = absl::Seconds(2),
                           .is_terminating = [] { return false; },
                           .on_poll =
                               [&] {
                                 made->session->RecordCompletedCalls();
                                 made->session->CheckForErrors();
                               },
                           .on_hang =
                               [](const std::string& text) {
                                 std::cerr << text << std::endl;
                                 std::_Exit(77);
                               }});
  const auto groups = ProcessGroups::Create(std::move(made->ranks), size % 2 == 0 ? 2 : 0).value();
  Train(groups, gpu, log, event);
  std::cerr << "done" << std::endl;
  return 0;
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  setenv("UNIPOOL_NCCL", UNIPOOL_NCCL_FOR_TESTS, 0);
  setenv("UNIPOOL_EMULATED_GPUS", "8", 0);
  return unipool::Main(std::atoi(argv[1]), argc > 2 ? argv[2] : "");
}
