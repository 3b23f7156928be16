// Messages between watchdogs over the connections of a rendezvous; rank 0 forwards them. A rank is
// lost if its connection closes before it has sent a goodbye.
#include <cstring>
#include <utility>

#include "comm/rendezvous.h"

namespace unipool {
namespace {

enum class Kind : int32_t { kText, kGoodbye, kLost };

struct Header {
  Kind kind;
  int32_t from;  // the sender; for kLost the lost rank
  int32_t bytes;
};

std::string Frame(Kind kind, int from, const std::string& text = "") {
  const Header header = {kind, from, static_cast<int32_t>(text.size())};
  std::string frame(reinterpret_cast<const char*>(&header), sizeof(header));
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
  ~RendezvousMessenger() override { SendToOthers(Frame(Kind::kGoodbye, rank_), rank_); }

  void SendToAll(const std::string& text) override {
    SendToOthers(Frame(Kind::kText, rank_, text.substr(0, kMaxBytes)), rank_);
  }

  std::optional<Message> Receive() override {
    for (Link& link : links_) {
      if (link.is_done) continue;
      const absl::Status status = link.socket.ReceiveSome(&link.pending);
      if (std::optional<Message> message = NextText(link)) return message;
      if (status.ok() || link.is_done) continue;
      link.is_done = true;
      ReportLost(link.rank);
    }
    return std::nullopt;
  }

 private:
  struct Link {
    int rank;
    TcpSocket socket;
    std::string pending;
    bool is_done;  // has sent a goodbye, or is lost
  };

  void SendToOthers(const std::string& frame, int except) const {
    for (const Link& link : links_) {
      if (!link.is_done && link.rank != except) link.socket.SendOrDrop(frame);
    }
  }
  void ReportLost(int rank) const {
    SendToOthers(Frame(Kind::kLost, rank), rank);
    on_lost_(rank);
  }
  // Removes complete frames from `link.pending` up to the first text, which it returns; handles the
  // frames of other kinds.
  std::optional<Message> NextText(Link& link) {
    while (link.pending.size() >= sizeof(Header)) {
      Header header;
      std::memcpy(&header, link.pending.data(), sizeof(header));
      const size_t size = sizeof(header) + static_cast<size_t>(header.bytes);
      if (link.pending.size() < size) break;
      const std::string text = link.pending.substr(sizeof(header), size - sizeof(header));
      link.pending.erase(0, size);
      if (header.kind == Kind::kGoodbye) link.is_done = true;
      if (header.kind == Kind::kLost) on_lost_(header.from);
      if (header.kind != Kind::kText) continue;
      if (rank_ == 0) SendToOthers(Frame(Kind::kText, header.from, text), header.from);
      return Message{header.from, text};
    }
    return std::nullopt;
  }

  const int rank_;
  const std::function<void(int)> on_lost_;
  std::vector<Link> links_;
};

}  // namespace

std::unique_ptr<Messenger> Rendezvous::IntoMessenger(std::function<void(int rank)> on_lost) {
  return std::make_unique<RendezvousMessenger>(identity_.rank, std::move(ranks_),
                                               std::move(on_lost));
}

}  // namespace unipool
