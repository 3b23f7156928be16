// Ranks that are processes with a GPU each, over NCCL. The library is opened when asked for, so the
// program starts without it. Calls on tensors of the GPU only enqueue. NCCL promises no order of
// sums: every rank gets the same bits, but another number of ranks, or machine, may get others.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "comm/call_log.h"
#include "comm/communicator.h"
#include "runtime/device.h"
#include "runtime/library_version.h"

namespace unipool {

// Loads NCCL. `built` is "" in a build without it.
LibraryVersion NcclVersion();

// NCCL in this process: the library, all communicators, and an eye on them. Outlives them.
class NcclSession {
 public:
  struct Options {
    Device gpu;
    int world_rank;           // by which it is known to people
    absl::Duration deadline;  // of the making of a communicator, and of each call's enqueueing
    CallLog* log;             // borrowed; a call is under way in it until the GPU has done it
    // Ends the process, with words for people, when NCCL reports an error: a rank is lost. Called
    // once, by the thread that notices.
    std::function<void(const std::string& words)> on_lost;
  };

  // UNAVAILABLE where this build or machine has no NCCL, or too old a one.
  static absl::StatusOr<std::unique_ptr<NcclSession>> Create(Options options);
  virtual ~NcclSession() = default;

  // What all ranks of a new world must know, from one of them.
  virtual absl::StatusOr<std::string> NewId() = 0;
  // Of tensors on the GPU. Collective. Every kind of call is made once, so that nothing is set up
  // in a step. DEADLINE_EXCEEDED where a rank does not come.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> CreateWorld(const std::string& id, int rank,
                                                                    int size) = 0;
  // Both from any thread, often: the watchdog's. Notes in the log which calls are done, and acts on
  // errors that came meanwhile.
  virtual void NoteDoneCalls() = 0;
  virtual void ActOnErrors() = 0;

 protected:
  NcclSession() = default;
};

}  // namespace unipool
