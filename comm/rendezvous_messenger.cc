// The watchdogs' way to each other over the connections of a rendezvous: through rank 0. A
// connection that closes without a goodbye is a lost rank.
#include <cstring>
#include <utility>

#include "comm/rendezvous.h"

namespace unipool {
namespace {

enum class Kind : int32_t { kText, kGoodbye, kLost };

struct Head {
  Kind kind;
  int32_t from;  // or who is lost
  int32_t bytes;
};

std::string Frame(Kind kind, int from, const std::string& text = "") {
  const Head head = {kind, from, static_cast<int32_t>(text.size())};
  std::string frame(reinterpret_cast<const char*>(&head), sizeof(head));
  return frame + text;
}

class RendezvousMessenger : public Messenger {
 public:
  RendezvousMessenger(int rank, std::vector<TcpSocket> sockets, std::function<void(int)> on_lost)
      : rank_(rank), on_lost_(std::move(on_lost)) {
    for (size_t i = 0; i < sockets.size(); ++i) {
      if (sockets[i].is_open()) {
        links_.push_back({static_cast<int>(i), std::move(sockets[i]), "", false});
      }
    }
  }
  ~RendezvousMessenger() override { Tell(Frame(Kind::kGoodbye, rank_), rank_); }

  void SendToAll(const std::string& text) override {
    Tell(Frame(Kind::kText, rank_, text.substr(0, kMaxBytes)), rank_);
  }

  std::optional<Message> Receive() override {
    for (Link& link : links_) {
      if (link.is_done) continue;
      const absl::Status status = link.socket.ReceiveSome(&link.pending);
      if (std::optional<Message> message = TakeFrame(link)) return message;
      if (status.ok() || link.is_done) continue;
      link.is_done = true;
      Lose(link.rank);
    }
    return std::nullopt;
  }

 private:
  struct Link {
    int rank;
    TcpSocket socket;
    std::string pending;
    bool is_done;  // said goodbye, or is lost
  };

  void Tell(const std::string& frame, int but) const {
    for (const Link& link : links_) {
      if (!link.is_done && link.rank != but) link.socket.SendOrDrop(frame);
    }
  }
  void Lose(int rank) const {
    Tell(Frame(Kind::kLost, rank), rank);
    on_lost_(rank);
  }
  // The next text, if it is there. What is not for people is acted upon.
  std::optional<Message> TakeFrame(Link& link) {
    while (link.pending.size() >= sizeof(Head)) {
      Head head;
      std::memcpy(&head, link.pending.data(), sizeof(head));
      const size_t size = sizeof(head) + static_cast<size_t>(head.bytes);
      if (link.pending.size() < size) break;
      const std::string text = link.pending.substr(sizeof(head), size - sizeof(head));
      link.pending.erase(0, size);
      if (head.kind == Kind::kGoodbye) link.is_done = true;
      if (head.kind == Kind::kLost) on_lost_(head.from);
      if (head.kind != Kind::kText) continue;
      if (rank_ == 0) Tell(Frame(Kind::kText, head.from, text), head.from);
      return Message{head.from, text};
    }
    return std::nullopt;
  }

  const int rank_;
  const std::function<void(int)> on_lost_;
  std::vector<Link> links_;
};

}  // namespace

std::unique_ptr<Messenger> Rendezvous::IntoMessenger(std::function<void(int rank)> on_lost) {
  return std::make_unique<RendezvousMessenger>(place_.rank, std::move(ranks_), std::move(on_lost));
}

}  // namespace unipool
