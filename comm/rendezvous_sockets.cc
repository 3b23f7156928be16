#include "comm/rendezvous_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "runtime/clock.h"

namespace unipool {
namespace {

absl::Status ConnectionClosed() { return absl::AbortedError("the connection is closed"); }

// Returns OK when the socket is ready for `events`, or DEADLINE_EXCEEDED after `until`.
absl::Status WaitReady(int descriptor, short events, absl::Time until) {
  pollfd request = {descriptor, events, 0};
  while (true) {
    const absl::Duration remaining = until - SteadyNow();
    if (remaining <= absl::ZeroDuration()) return absl::DeadlineExceededError("timed out");
    const auto milliseconds = std::min<int64_t>(absl::ToInt64Milliseconds(remaining) + 1, 60000);
    if (poll(&request, 1, static_cast<int>(milliseconds)) > 0) return absl::OkStatus();
  }
}

// Keep-alive probes detect an unreachable host within 15 seconds; small messages are not delayed.
void Configure(int descriptor) {
  const int on = 1, idle_seconds = 4, interval_seconds = 2, probes = 4;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof(idle_seconds));
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof(interval_seconds));
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

TcpSocket::TcpSocket(TcpSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

TcpSocket& TcpSocket::operator=(TcpSocket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

TcpSocket::~TcpSocket() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<TcpSocket> TcpSocket::Listen(int port) {
  TcpSocket listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(listener.descriptor_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (bind(listener.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener.descriptor_, 1024) != 0) {
    if (errno == EADDRINUSE) return absl::AlreadyExistsError("the port is in use");
    return absl::InvalidArgumentError(std::strerror(errno));
  }
  return listener;
}

absl::StatusOr<TcpSocket> TcpSocket::Connect(const std::string& host, int port,
                                             absl::Duration timeout) {
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (failed != 0) return absl::UnavailableError(gai_strerror(failed));
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  TcpSocket connection(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  Configure(connection.descriptor_);
  if (connect(connection.descriptor_, found->ai_addr, found->ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return absl::UnavailableError(std::strerror(errno));
    if (!WaitReady(connection.descriptor_, POLLOUT, SteadyNow() + timeout).ok()) {
      return absl::UnavailableError("no response");
    }
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(connection.descriptor_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return absl::UnavailableError(std::strerror(error));
  }
  return connection;
}

int TcpSocket::port() const {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

absl::StatusOr<TcpSocket> TcpSocket::Accept(absl::Time until) const {
  while (true) {
    TcpSocket connection(accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.is_open()) {
      Configure(connection.descriptor_);
      return connection;
    }
    absl::Status ready = WaitReady(descriptor_, POLLIN, until);
    if (!ready.ok()) return ready;
  }
}

absl::Status TcpSocket::Send(const void* data, size_t bytes, absl::Time until) const {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(descriptor_, from, bytes, MSG_NOSIGNAL);
    if (sent > 0) {
      from += sent;
      bytes -= static_cast<size_t>(sent);
      continue;
    }
    if (!WouldBlock()) return ConnectionClosed();
    absl::Status ready = WaitReady(descriptor_, POLLOUT, until);
    if (!ready.ok()) return ready;
  }
  return absl::OkStatus();
}

absl::Status TcpSocket::Receive(void* data, size_t bytes, absl::Time until) const {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t received = recv(descriptor_, to, bytes, 0);
    if (received > 0) {
      to += received;
      bytes -= static_cast<size_t>(received);
      continue;
    }
    if (received == 0 || !WouldBlock()) return ConnectionClosed();
    absl::Status ready = WaitReady(descriptor_, POLLIN, until);
    if (!ready.ok()) return ready;
  }
  return absl::OkStatus();
}

absl::Status TcpSocket::ReceiveSome(std::string* to) const {
  char buffer[4096];
  while (true) {
    const ssize_t received = recv(descriptor_, buffer, sizeof(buffer), 0);
    if (received == 0 || (received < 0 && !WouldBlock())) return ConnectionClosed();
    if (received < 0) return absl::OkStatus();
    to->append(buffer, static_cast<size_t>(received));
  }
}

void TcpSocket::SendOrDrop(const std::string& bytes) const {
  // Messages are far smaller than the socket's buffer, so they are not sent in part.
  [[maybe_unused]] const ssize_t sent =
      send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

std::vector<std::string> AddressesOfThisHost() {
  std::vector<std::string> addresses;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) == 0) {
    for (const ifaddrs* entry = all; entry != nullptr; entry = entry->ifa_next) {
      if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET ||
          (entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0) {
        continue;
      }
      char text[INET_ADDRSTRLEN] = "";
      const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
      addresses.emplace_back(text);
    }
    freeifaddrs(all);
  }
  addresses.emplace_back("127.0.0.1");
  return addresses;
}

}  // namespace unipool
