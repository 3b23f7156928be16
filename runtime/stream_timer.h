// Accumulates the time that marked sections of a stream's work take on the stream itself. On a GPU
// the host is not blocked by the measurement.
#pragma once

#include <memory>

#include "runtime/device.h"
#include "runtime/stream.h"

namespace unipool {

class StreamTimer {
 public:
  static std::unique_ptr<StreamTimer> Create(Device device);
  virtual ~StreamTimer() = default;
  StreamTimer(const StreamTimer&) = delete;
  StreamTimer& operator=(const StreamTimer&) = delete;

  // Mark the begin and the end of a section on a stream of the device. On the CPU, Stop blocks
  // until the stream has executed the section.
  virtual void Start(Stream& stream) = 0;
  virtual void Stop(Stream& stream) = 0;
  // Returns the sum over all sections since the last call, and resets it; blocks until they are
  // done.
  virtual double ReadAndReset() = 0;

 protected:
  StreamTimer() = default;
};

}  // namespace unipool
