// Sums up how long chosen pieces of a stream's work take, in the stream's own time: on a GPU the
// host does not wait for them.
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

  // Around the piece, on a stream of the device. On the CPU, Stop waits for the stream.
  virtual void Start(Stream& stream) = 0;
  virtual void Stop(Stream& stream) = 0;
  // Of all pieces since the last call; waits until they are done.
  virtual double TakeSeconds() = 0;

 protected:
  StreamTimer() = default;
};

}  // namespace unipool
