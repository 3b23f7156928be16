#include "comm/rendezvous.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "comm/gpu_ranks.h"
#include "comm/host_name.h"
#include "runtime/clock.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr uint32_t kMagic = 0x314c5055;  // "UPL1": the version is its last letter

// The first message of a rank to rank 0, and the reply of rank 0.
struct JoinRequest {
  uint32_t magic;
  int32_t rank;
  int32_t size;
  int32_t unused;
  uint64_t token;  // from the rendezvous file; 0 without a file
};
enum class JoinReply : int32_t { kAccepted, kSizeDiffers, kRankIsTaken, kTokenDiffers };

// Where rank 0 listens.
struct Target {
  std::vector<std::string> hosts;  // addresses of the same host; at least one can be reached
  int port = 0;
  uint64_t token = 0;
};

absl::StatusOr<Target> ParseTcp(const std::string& address) {
  Target target;
  const absl::string_view rest = absl::StripPrefix(address, "tcp://");
  const size_t colon = rest.rfind(':');
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(rest.substr(colon + 1), &target.port) || target.port < 1 ||
      target.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("rendezvous address ", address,
                     " is malformed; use tcp://HOST:PORT with a port from 1 to 65535"));
  }
  target.hosts = {std::string(rest.substr(0, colon))};
  return target;
}

bool IsFile(const std::string& address) { return absl::StartsWith(address, "file://"); }
std::string PathOf(const std::string& address) { return address.substr(std::strlen("file://")); }

uint64_t NewToken() {
  uint64_t token = 0;
  std::ifstream("/dev/urandom", std::ios::binary)
      .read(reinterpret_cast<char*>(&token), sizeof(token));
  return token | 1;
}

// The text by which ranks find rank 0: "unipool-rendezvous 1", the port, the token, and the
// addresses of rank 0's host, one per line.
std::string ToText(const Target& target) {
  return absl::StrCat("unipool-rendezvous 1\n", target.port, "\n", target.token, "\n",
                      absl::StrJoin(target.hosts, "\n"), "\n");
}

std::optional<Target> FromText(std::istream& text) {
  std::string header;
  Target target;
  if (!std::getline(text, header) || header != "unipool-rendezvous 1") return std::nullopt;
  if (!(text >> target.port >> target.token)) return std::nullopt;
  for (std::string host; text >> host;) target.hosts.push_back(host);
  return target;
}

absl::Status WriteFile(const std::string& path, const Target& target) {
  const std::string temporary = absl::StrCat(path, ".", getpid());
  std::ofstream(temporary) << ToText(target);
  if (std::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("UNIPOOL_RENDEZVOUS: cannot write ", path, ": ", std::strerror(errno),
                   "; choose a path in a folder that exists and is shared by all hosts"));
}

std::optional<Target> ReadFile(const std::string& path) {
  std::ifstream file(path);
  return FromText(file);
}

// The age of the rendezvous file, as part of an error.
std::string FileAge(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return "the file does not exist";
  const absl::Duration age = absl::Now() - absl::FromTimeT(info.st_mtime);
  return absl::StrCat("the file is ", absl::FormatDuration(absl::Trunc(age, absl::Seconds(1))),
                      " old");
}

}  // namespace

Rendezvous::Rendezvous(LaunchIdentity identity, absl::Duration deadline)
    : identity_(std::move(identity)), deadline_(deadline) {}

absl::StatusOr<std::unique_ptr<Rendezvous>> Rendezvous::Join(const LaunchIdentity& identity,
                                                             absl::Duration deadline) {
  std::unique_ptr<Rendezvous> self(new Rendezvous(identity, deadline));
  if (identity.size > 1) {
    RETURN_IF_ERROR(identity.rank == 0 ? self->AcceptRanks() : self->ConnectToRank0());
  }
  return self;
}

absl::StatusOr<std::unique_ptr<Rendezvous>> Rendezvous::JoinAmong(Communicator& ranks,
                                                                  absl::Duration deadline) {
  const LaunchIdentity identity = {
      .rank = ranks.rank(), .size = ranks.size(), .address = "the connections of the watchdogs"};
  std::unique_ptr<Rendezvous> self(new Rendezvous(identity, deadline));
  if (identity.size == 1) return self;
  Target target;
  absl::StatusOr<TcpSocket> listener = absl::CancelledError("not rank 0");
  if (identity.rank == 0) {
    listener = TcpSocket::Listen(0);
    target = {.hosts = AddressesOfThisHost(),
              .port = listener.ok() ? listener->port() : 0,
              .token = NewToken()};
  }
  const std::string text = GatherTexts(ranks, ToText(target))[0];
  if (identity.rank != 0) {
    RETURN_IF_ERROR(self->ConnectByText(text));
  } else {
    if (!listener.ok()) return listener.status();
    RETURN_IF_ERROR(self->AcceptFrom(*listener, target.token));
  }
  return self;
}

std::string Rendezvous::RankName() const {
  return absl::StrCat("rank ", identity_.rank, " on ", HostName());
}

absl::Status Rendezvous::TimeoutError(const std::string& details) const {
  return absl::DeadlineExceededError(absl::StrCat(RankName(), " waited ",
                                                  absl::FormatDuration(deadline_), " at ",
                                                  identity_.address, " for ", details));
}

absl::Status Rendezvous::AcceptRanks() {
  Target target;
  if (IsFile(identity_.address)) {
    target.token = NewToken();
  } else {
    ASSIGN_OR_RETURN(target, ParseTcp(identity_.address));
  }
  absl::StatusOr<TcpSocket> listener = TcpSocket::Listen(target.port);
  if (!listener.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        RankName(), " cannot listen at ", identity_.address, ": ", listener.status().message(),
        "; choose a free port of this host by MASTER_PORT or UNIPOOL_RENDEZVOUS"));
  }
  if (IsFile(identity_.address)) {
    target.port = listener->port();
    target.hosts = AddressesOfThisHost();
    RETURN_IF_ERROR(WriteFile(PathOf(identity_.address), target));
  }
  RETURN_IF_ERROR(AcceptFrom(*listener, target.token));
  if (IsFile(identity_.address)) unlink(PathOf(identity_.address).c_str());
  return absl::OkStatus();
}

// Admits all other ranks.
absl::Status Rendezvous::AcceptFrom(const TcpSocket& listener, uint64_t token) {
  const absl::Time until = SteadyNow() + deadline_;
  ranks_.resize(identity_.size);
  while (true) {
    std::vector<int> missing;
    for (int r = 1; r < identity_.size; ++r) {
      if (!ranks_[r].is_open()) missing.push_back(r);
    }
    if (missing.empty()) return absl::OkStatus();
    absl::StatusOr<TcpSocket> connection = listener.Accept(until);
    if (!connection.ok()) {
      return TimeoutError(absl::StrCat("rank ", absl::StrJoin(missing, ", "),
                                       "; check that these ranks were started and can connect to "
                                       "this host"));
    }
    RETURN_IF_ERROR(AdmitRank(std::move(*connection), token, until));
  }
}

// Reads the request of a new connection and replies. Drops connections that use another protocol or
// belong to another run; an error means that the ranks of this run contradict each other.
absl::Status Rendezvous::AdmitRank(TcpSocket connection, uint64_t token, absl::Time until) {
  JoinRequest request = {};
  const absl::Time soon = std::min(until, SteadyNow() + absl::Seconds(5));
  if (!connection.Receive(&request, sizeof(request), soon).ok() || request.magic != kMagic) {
    return absl::OkStatus();
  }
  JoinReply reply = JoinReply::kAccepted;
  absl::Status status;
  if (request.token != token) {
    reply = JoinReply::kTokenDiffers;
  } else if (request.size != identity_.size) {
    reply = JoinReply::kSizeDiffers;
    status = absl::InvalidArgumentError(
        absl::StrCat("rank ", request.rank, " was started as one of ", request.size,
                     " ranks, and rank 0 as one of ", identity_.size,
                     "; start all ranks with the same WORLD_SIZE (or "
                     "SLURM_NTASKS)"));
  } else if (request.rank < 1 || request.rank >= identity_.size || ranks_[request.rank].is_open()) {
    reply = JoinReply::kRankIsTaken;
    status =
        absl::InvalidArgumentError(absl::StrCat("two processes were started as rank ", request.rank,
                                                "; give each process its own RANK (or "
                                                "SLURM_PROCID)"));
  }
  const bool is_sent = connection.Send(&reply, sizeof(reply), soon).ok();
  if (reply == JoinReply::kAccepted && is_sent) ranks_[request.rank] = std::move(connection);
  return status;
}

// Connects to rank 0 at `host` and stores the connection in `ranks_`. After a failure that may be
// temporary, leaves `ranks_` empty, sets `error` and returns OK.
absl::Status Rendezvous::TryConnect(const std::string& host, int port, uint64_t token,
                                    std::string* error) {
  absl::StatusOr<TcpSocket> connection = TcpSocket::Connect(host, port, absl::Seconds(2));
  if (!connection.ok()) {
    *error = std::string(connection.status().message());
    return absl::OkStatus();
  }
  const JoinRequest request = {kMagic, identity_.rank, identity_.size, 0, token};
  auto reply = JoinReply::kTokenDiffers;
  const absl::Time soon = SteadyNow() + absl::Seconds(10);
  if (!connection->Send(&request, sizeof(request), soon).ok() ||
      !connection->Receive(&reply, sizeof(reply), soon).ok() || reply == JoinReply::kTokenDiffers) {
    *error = "the process at that address is not rank 0 of this run";
    return absl::OkStatus();
  }
  if (reply == JoinReply::kAccepted) {
    ranks_.push_back(std::move(*connection));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(RankName(), " of ", identity_.size, ": rank 0 at ", identity_.address,
                   reply == JoinReply::kSizeDiffers
                       ? " was started with another number of ranks; start all ranks with the same "
                         "WORLD_SIZE (or SLURM_NTASKS)"
                       : " already has another process with this rank; give each process its own "
                         "RANK (or SLURM_PROCID)"));
}

absl::Status Rendezvous::ConnectToRank0() {
  const absl::Time until = SteadyNow() + deadline_;
  const bool is_file = IsFile(identity_.address);
  std::string error = "no response";
  while (true) {
    std::optional<Target> target;
    if (is_file) {
      target = ReadFile(PathOf(identity_.address));
    } else {
      ASSIGN_OR_RETURN(target, ParseTcp(identity_.address));
    }
    for (size_t i = 0; target.has_value() && i < target->hosts.size(); ++i) {
      RETURN_IF_ERROR(TryConnect(target->hosts[i], target->port, target->token, &error));
      if (!ranks_.empty()) return absl::OkStatus();
    }
    if (SteadyNow() > until) {
      const std::string age = is_file ? ", and " + FileAge(PathOf(identity_.address)) : "";
      return TimeoutError(absl::StrCat("rank 0: ", error, age,
                                       "; check that rank 0 is running and that this host can "
                                       "connect to its host"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

absl::Status Rendezvous::ConnectByText(const std::string& text) {
  std::istringstream stream(text);
  const std::optional<Target> target = FromText(stream);
  const absl::Time until = SteadyNow() + deadline_;
  std::string error = "it does not listen";
  while (target.has_value() && target->port > 0 && SteadyNow() < until) {
    for (const std::string& host : target->hosts) {
      RETURN_IF_ERROR(TryConnect(host, target->port, target->token, &error));
      if (!ranks_.empty()) return absl::OkStatus();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return TimeoutError(absl::StrCat("rank 0: ", error));
}

absl::StatusOr<std::vector<std::string>> Rendezvous::Gather(const std::string& mine) {
  const absl::Time until = SteadyNow() + deadline_;
  const auto send = [&](const TcpSocket& to, const std::string& text) {
    const int64_t bytes = static_cast<int64_t>(text.size());
    RETURN_IF_ERROR(to.Send(&bytes, sizeof(bytes), until));
    return to.Send(text.data(), text.size(), until);
  };
  const auto receive = [&](const TcpSocket& from, std::string* text) {
    int64_t bytes = 0;
    RETURN_IF_ERROR(from.Receive(&bytes, sizeof(bytes), until));
    text->resize(static_cast<size_t>(bytes));
    return from.Receive(text->data(), text->size(), until);
  };
  const auto error = [&](int rank, const absl::Status& status) {
    const std::string hint = absl::StrCat("; check the log of rank ", rank);
    if (absl::IsDeadlineExceeded(status)) return TimeoutError(absl::StrCat("rank ", rank, hint));
    return absl::AbortedError(absl::StrCat(RankName(), " lost rank ", rank, " at ",
                                           identity_.address, ": ", status.message(), hint));
  };
  std::vector<std::string> all(identity_.size);
  all[identity_.rank] = mine;
  for (int r = 1; identity_.rank == 0 && r < identity_.size; ++r) {
    if (const absl::Status status = receive(ranks_[r], &all[r]); !status.ok()) {
      return error(r, status);
    }
  }
  for (int r = 1; identity_.rank == 0 && r < identity_.size; ++r) {
    for (const std::string& text : all) {
      if (const absl::Status status = send(ranks_[r], text); !status.ok()) return error(r, status);
    }
  }
  if (identity_.rank == 0) return all;
  absl::Status status = send(ranks_[0], mine);
  for (int r = 0; status.ok() && r < identity_.size; ++r) status = receive(ranks_[0], &all[r]);
  if (!status.ok()) return error(0, status);
  return all;
}

}  // namespace unipool
