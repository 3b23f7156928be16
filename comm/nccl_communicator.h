// Ranks that are processes with their own GPUs, over NCCL. The library is opened at run time, so
// the program also starts without it. Calls enqueue on the stream and do not wait for the GPU. NCCL
// guarantees no order of summation: all ranks get the same bits, but another number of ranks, or
// another machine, may get different ones.
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

// NCCL in this process: owns the library, makes the communicators and checks them for errors. Must
// outlive its communicators.
class NcclSession {
 public:
  struct Options {
    Device gpu;
    int world_rank;  // the rank that errors name
    absl::Duration
        deadline;  // maximum duration of creating a communicator, and of enqueueing a call
    CallLog* log;  // records calls, pending until the GPU has completed them; borrowed
    // Called at most once, on any thread, with a one-line error when NCCL reports that another rank
    // is lost. Should end the process; if it returns or is null, the session aborts.
    std::function<void(const std::string& error)> on_error;
  };

  // UNAVAILABLE if this build or this machine has no NCCL of version 2.18 or later.
  static absl::StatusOr<std::unique_ptr<NcclSession>> Create(Options options);
  virtual ~NcclSession() = default;

  // Returns the id of a new world. One rank calls it and sends the id to all others. INTERNAL if
  // NCCL fails.
  virtual absl::StatusOr<std::string> NewId() = 0;
  // Returns the communicator of all ranks, named 'world', for tensors on the GPU. It makes each
  // kind of call once, so that training steps set up no connections. Collective. DEADLINE_EXCEEDED
  // if a rank does not call it in time, INTERNAL if NCCL fails.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> CreateWorld(const std::string& id, int rank,
                                                                    int size) = 0;
  // Thread-safe; the watchdog calls both several times a second. The first ends completed calls in
  // the log; the second ends the process, by Options::on_error, if NCCL reports an asynchronous
  // error.
  virtual void RecordCompletedCalls() = 0;
  virtual void CheckForErrors() = 0;

 protected:
  NcclSession() = default;
};

}  // namespace unipool
