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
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr uint32_t kMagic = 0x314c5055;  // "UPL1": the version is its last letter

// What a rank says when it calls rank 0, and the answer: how its claim was taken.
struct Hello {
  uint32_t magic;
  int32_t rank;
  int32_t size;
  int32_t unused;
  uint64_t token;  // of the file that it read; 0 without one
};
enum class Answer : int32_t { kWelcome, kOtherSize, kRankIsTaken, kOtherToken };

struct Target {
  std::vector<std::string> hosts;  // one of them answers
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
        absl::StrCat(address, ": expected tcp://host:port with a port from 1 to 65535"));
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

// "unipool-rendezvous 1", the port, the token, and the addresses of rank 0's host, a line each.
absl::Status WriteFile(const std::string& path, const Target& target) {
  const std::string aside = absl::StrCat(path, ".", getpid());
  std::ofstream(aside) << "unipool-rendezvous 1\n"
                       << target.port << "\n"
                       << target.token << "\n"
                       << absl::StrJoin(target.hosts, "\n") << "\n";
  if (std::rename(aside.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("UNIPOOL_RENDEZVOUS: cannot write ", path, ": ", std::strerror(errno)));
}

std::optional<Target> ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::string head;
  Target target;
  if (!std::getline(file, head) || head != "unipool-rendezvous 1") return std::nullopt;
  if (!(file >> target.port >> target.token)) return std::nullopt;
  for (std::string host; file >> host;) target.hosts.push_back(host);
  return target;
}

std::string AgeInWords(const std::string& path) {
  struct stat facts = {};
  if (stat(path.c_str(), &facts) != 0) return "there is no such file";
  const absl::Duration age = absl::Now() - absl::FromTimeT(facts.st_mtime);
  return absl::StrCat("the file is ", absl::FormatDuration(absl::Trunc(age, absl::Seconds(1))),
                      " old");
}

}  // namespace

Rendezvous::Rendezvous(LaunchIdentity place, absl::Duration deadline)
    : place_(std::move(place)), deadline_(deadline) {}

absl::StatusOr<std::unique_ptr<Rendezvous>> Rendezvous::Join(const LaunchIdentity& place,
                                                             absl::Duration deadline) {
  std::unique_ptr<Rendezvous> self(new Rendezvous(place, deadline));
  if (place.size > 1) {
    RETURN_IF_ERROR(place.rank == 0 ? self->ListenForAll() : self->CallFirst());
  }
  return self;
}

absl::Status Rendezvous::Late(const std::string& why) const {
  return absl::DeadlineExceededError(absl::StrCat("rank ", place_.rank, " waited ",
                                                  absl::FormatDuration(deadline_), " at ",
                                                  place_.address, " for ", why));
}

absl::Status Rendezvous::ListenForAll() {
  Target target;
  if (IsFile(place_.address)) {
    target.token = NewToken();
  } else {
    ASSIGN_OR_RETURN(target, ParseTcp(place_.address));
  }
  absl::StatusOr<TcpSocket> listener = TcpSocket::Listen(target.port);
  if (!listener.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("rank 0 cannot listen at ", place_.address, ": ",
                                                   listener.status().message(),
                                                   "; expected a free port of this host"));
  }
  if (IsFile(place_.address)) {
    target.port = listener->port();
    target.hosts = AddressesOfThisHost();
    RETURN_IF_ERROR(WriteFile(PathOf(place_.address), target));
  }
  const absl::Time until = absl::Now() + deadline_;
  ranks_.resize(place_.size);
  while (true) {
    std::vector<int> missing;
    for (int r = 1; r < place_.size; ++r) {
      if (!ranks_[r].is_open()) missing.push_back(r);
    }
    if (missing.empty()) break;
    absl::StatusOr<TcpSocket> caller = listener->Accept(until);
    if (!caller.ok()) return Late(absl::StrCat("rank ", absl::StrJoin(missing, ", ")));
    RETURN_IF_ERROR(TakeIn(std::move(*caller), target.token, until));
  }
  if (IsFile(place_.address)) unlink(PathOf(place_.address).c_str());
  return absl::OkStatus();
}

// Whoever speaks another language, or comes from another run, is sent away.
absl::Status Rendezvous::TakeIn(TcpSocket caller, uint64_t token, absl::Time until) {
  Hello hello = {};
  const absl::Time soon = std::min(until, absl::Now() + absl::Seconds(5));
  if (!caller.Receive(&hello, sizeof(hello), soon).ok() || hello.magic != kMagic) {
    return absl::OkStatus();
  }
  Answer answer = Answer::kWelcome;
  absl::Status status;
  if (hello.token != token) {
    answer = Answer::kOtherToken;
  } else if (hello.size != place_.size) {
    answer = Answer::kOtherSize;
    status = absl::InvalidArgumentError(absl::StrCat("rank ", hello.rank, " was started as one of ",
                                                     hello.size, " ranks, and rank 0 as one of ",
                                                     place_.size, "; expected the same number"));
  } else if (hello.rank < 1 || hello.rank >= place_.size || ranks_[hello.rank].is_open()) {
    answer = Answer::kRankIsTaken;
    status = absl::InvalidArgumentError(absl::StrCat("two processes were started as rank ",
                                                     hello.rank, "; expected each rank once"));
  }
  const bool is_told = caller.Send(&answer, sizeof(answer), soon).ok();
  if (answer == Answer::kWelcome && is_told) ranks_[hello.rank] = std::move(caller);
  return status;
}

// Leaves `ranks_` empty, and says why, where it may go better in a moment.
absl::Status Rendezvous::TryToCall(const std::string& host, int port, uint64_t token,
                                   std::string* why) {
  absl::StatusOr<TcpSocket> first = TcpSocket::Connect(host, port, absl::Seconds(2));
  if (!first.ok()) {
    *why = std::string(first.status().message());
    return absl::OkStatus();
  }
  const Hello hello = {kMagic, place_.rank, place_.size, 0, token};
  auto answer = Answer::kOtherToken;
  const absl::Time soon = absl::Now() + absl::Seconds(10);
  if (!first->Send(&hello, sizeof(hello), soon).ok() ||
      !first->Receive(&answer, sizeof(answer), soon).ok() || answer == Answer::kOtherToken) {
    *why = "whoever answers there is not rank 0 of this run";
    return absl::OkStatus();
  }
  if (answer == Answer::kWelcome) {
    ranks_.push_back(std::move(*first));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("rank ", place_.rank, " of ", place_.size, ": rank 0 at ", place_.address,
                   answer == Answer::kOtherSize ? " was started for another number of ranks"
                                                : " has another process as this rank"));
}

absl::Status Rendezvous::CallFirst() {
  const absl::Time until = absl::Now() + deadline_;
  const bool is_file = IsFile(place_.address);
  std::string why = "no answer";
  while (true) {
    std::optional<Target> target;
    if (is_file) {
      target = ReadFile(PathOf(place_.address));
    } else {
      ASSIGN_OR_RETURN(target, ParseTcp(place_.address));
    }
    for (size_t i = 0; target.has_value() && i < target->hosts.size(); ++i) {
      RETURN_IF_ERROR(TryToCall(target->hosts[i], target->port, target->token, &why));
      if (!ranks_.empty()) return absl::OkStatus();
    }
    if (absl::Now() > until) {
      const std::string age = is_file ? ", and " + AgeInWords(PathOf(place_.address)) : "";
      return Late(absl::StrCat("rank 0: ", why, age));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

absl::StatusOr<std::vector<std::string>> Rendezvous::Gather(const std::string& mine) {
  const absl::Time until = absl::Now() + deadline_;
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
  const auto told = [&](int rank, const absl::Status& status) {
    if (absl::IsDeadlineExceeded(status)) return Late(absl::StrCat("rank ", rank));
    return absl::AbortedError(absl::StrCat("rank ", place_.rank, " lost rank ", rank, " at ",
                                           place_.address, ": ", status.message()));
  };
  std::vector<std::string> all(place_.size);
  all[place_.rank] = mine;
  for (int r = 1; place_.rank == 0 && r < place_.size; ++r) {
    if (const absl::Status status = receive(ranks_[r], &all[r]); !status.ok()) {
      return told(r, status);
    }
  }
  for (int r = 1; place_.rank == 0 && r < place_.size; ++r) {
    for (const std::string& text : all) {
      if (const absl::Status status = send(ranks_[r], text); !status.ok()) return told(r, status);
    }
  }
  if (place_.rank == 0) return all;
  absl::Status status = send(ranks_[0], mine);
  for (int r = 0; status.ok() && r < place_.size; ++r) status = receive(ranks_[0], &all[r]);
  if (!status.ok()) return told(0, status);
  return all;
}

}  // namespace unipool
