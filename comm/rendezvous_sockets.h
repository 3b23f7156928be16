// TCP between ranks that are not under MPI: sockets whose every wait has a deadline.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace unipool {

// A connection or a listener; closes itself.
class TcpSocket {
 public:
  TcpSocket() = default;
  explicit TcpSocket(int descriptor) : descriptor_(descriptor) {}
  TcpSocket(TcpSocket&& other) noexcept;
  TcpSocket& operator=(TcpSocket&& other) noexcept;
  ~TcpSocket();

  // On all interfaces; port 0 takes any free one. ALREADY_EXISTS where the port is in use.
  static absl::StatusOr<TcpSocket> Listen(int port);
  // UNAVAILABLE, saying why, where nobody answers within `patience`.
  static absl::StatusOr<TcpSocket> Connect(const std::string& host, int port,
                                           absl::Duration patience);

  bool is_open() const { return descriptor_ >= 0; }
  int port() const;  // its own
  // DEADLINE_EXCEEDED where nobody calls until then.
  absl::StatusOr<TcpSocket> Accept(absl::Time until) const;
  // All of it. DEADLINE_EXCEEDED, or ABORTED where the other side is gone.
  absl::Status Send(const void* data, size_t bytes, absl::Time until) const;
  absl::Status Receive(void* data, size_t bytes, absl::Time until) const;
  // What is there, at once: appended to `to`. ABORTED where the other side is gone.
  absl::Status ReceiveSome(std::string* to) const;
  // At once, or not at all.
  void SendOrDrop(const std::string& bytes) const;

 private:
  int descriptor_ = -1;
};

// By which other hosts reach this one, best first; the loopback comes last.
std::vector<std::string> AddressesOfThisHost();

}  // namespace unipool
