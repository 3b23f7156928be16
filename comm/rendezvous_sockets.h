// TCP between ranks that are not started by MPI: IPv4 sockets whose every wait has a deadline.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace unipool {

// Owns a connection or a listener and closes it. Not thread-safe.
class TcpSocket {
 public:
  TcpSocket() = default;
  explicit TcpSocket(int descriptor) : descriptor_(descriptor) {}
  TcpSocket(TcpSocket&& other) noexcept;
  TcpSocket& operator=(TcpSocket&& other) noexcept;
  ~TcpSocket();

  // Listens on all interfaces; port 0 selects a free port. ALREADY_EXISTS if the port is in use.
  static absl::StatusOr<TcpSocket> Listen(int port);
  // UNAVAILABLE, with the reason, if the connection is not made within `timeout`.
  static absl::StatusOr<TcpSocket> Connect(const std::string& host, int port,
                                           absl::Duration timeout);

  bool is_open() const { return descriptor_ >= 0; }
  // The local port.
  int port() const;
  // Returns the next connection to this listener. DEADLINE_EXCEEDED if there is none until `until`.
  absl::StatusOr<TcpSocket> Accept(absl::Time until) const;
  // Transfer all `bytes`. DEADLINE_EXCEEDED after `until`; ABORTED if the peer closed the
  // connection.
  absl::Status Send(const void* data, size_t bytes, absl::Time until) const;
  absl::Status Receive(void* data, size_t bytes, absl::Time until) const;
  // Appends the bytes that have already arrived to `to`, without waiting. ABORTED if the peer
  // closed the connection.
  absl::Status ReceiveSome(std::string* to) const;
  // Sends without waiting; drops the bytes if the socket cannot take them.
  void SendOrDrop(const std::string& bytes) const;

 private:
  int descriptor_ = -1;
};

// IPv4 addresses by which other hosts may reach this one; the loopback address is last.
std::vector<std::string> AddressesOfThisHost();

}  // namespace unipool
