#include "comm/watchdog.h"

#include <glog/logging.h>

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "runtime/clock.h"

namespace unipool {
namespace {

using Clock = CallLog::Clock;

constexpr std::chrono::milliseconds kLook(100);
// A look that comes so late is one of a process that was stopped, and goes on.
constexpr std::chrono::seconds kStopped(2);
// For the states of the others to come in.
constexpr std::chrono::seconds kGathering(2);
// A rank that tells needs some time for it, on a slow terminal too.
constexpr std::chrono::seconds kTelling(3);
// Waits below this are part of the work.
constexpr std::chrono::milliseconds kShortWait(300);

// "rank 0 waits 3.2 s for rank 2 in AllReduce #4 of group 'world' (step 3, gradients)".
std::string WaitInWords(int rank, const CallLog::Call& call) {
  std::string words = absl::StrFormat("rank %d waits %.1f s", rank, SecondsSince(call.start));
  if (!call.missing.empty()) absl::StrAppend(&words, " for rank ", call.missing.ToString());
  return absl::StrCat(words, " in ", call.ToString());
}

// Past calls as lines, oldest first.
std::string RingInWords(const std::vector<CallLog::Call>& calls) {
  std::string words;
  for (const CallLog::Call& call : calls) {
    const auto end = call.is_under_way() ? Clock::now() : call.end;
    absl::StrAppendFormat(&words, "\n  %.3f s ago, %s %.3f s: %s", SecondsSince(call.start),
                          call.is_under_way() ? "under way for" : "took",
                          std::chrono::duration<double>(end - call.start).count(), call.ToString());
    if (!call.missing.empty()) absl::StrAppend(&words, ", rank ", call.missing.ToString(), " late");
  }
  return words;
}

}  // namespace

Watchdog::Watchdog(const CallLog& log, std::unique_ptr<Messenger> messenger, Options options)
    : log_(log),
      messenger_(std::move(messenger)),
      options_(std::move(options)),
      moved_(Clock::now()),
      looked_(moved_),
      thread_([this] { Watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::Watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kLook, [this] { return stopping_; })) {
    NoteMoves();
    if (options_.on_look) options_.on_look();
    TellOfEnd();
    ReceiveAll();
    if (states_.empty() && !IsLate()) continue;
    Report();
    return;
  }
}

// A call that is under way has a deadline of its own.
void Watchdog::NoteMoves() {
  const auto now = Clock::now();
  const bool was_stopped = now - std::exchange(looked_, now) > kStopped;
  const uint64_t moves = log_.progress().changes() + log_.num_calls();
  const bool moved = std::exchange(moves_, moves) != moves;
  if (moved || was_stopped || log_.OldestUnderWay().has_value()) moved_ = now;
}

bool Watchdog::IsLate() const {
  const auto longest = absl::ToChronoNanoseconds(options_.deadline);
  const std::optional<CallLog::Call> call = log_.OldestUnderWay();
  if (call.has_value()) return Clock::now() - call->start > longest;
  // Nobody else may be there to wait for a rank whose file system, or device, does not answer.
  return log_.progress().is_at_work() && Clock::now() - moved_ > longest;
}

void Watchdog::TellOfEnd() {
  if (end_told_ || !options_.is_ended()) return;
  const std::optional<CallLog::Call> call = log_.OldestUnderWay();
  if (!call.has_value() || Clock::now() - call->start < kShortWait) return;
  end_told_ = true;
  LOG(WARNING) << "SIGTERM came while " << WaitInWords(options_.rank, *call);
}

void Watchdog::ReceiveAll() {
  while (std::optional<Messenger::Message> message = messenger_->Receive()) {
    states_[message->from] = std::move(message->text);
  }
}

std::string Watchdog::State() const {
  const std::optional<CallLog::Call> call = log_.OldestUnderWay();
  if (call.has_value()) return WaitInWords(options_.rank, *call);
  return absl::StrFormat("rank %d waits for nobody: %s, for %.1f s", options_.rank,
                         log_.progress().Read().ToString(), SecondsSince(moved_));
}

// One line a rank; those that do not answer come last.
std::string Watchdog::Summary() const {
  std::string words = "nothing moves:";
  std::vector<int> silent;
  for (int rank = 0; rank < options_.size; ++rank) {
    const auto state = states_.find(rank);
    if (state == states_.end()) {
      silent.push_back(rank);
    } else {
      absl::StrAppend(&words, "\n  ", state->second);
    }
  }
  if (silent.empty()) return words;
  return absl::StrCat(words, "\n  rank ", absl::StrJoin(silent, ", "), " ",
                      silent.size() == 1 ? "does" : "do", " not answer: stopped, dead, or cut off");
}

// Whoever is late, or hears of somebody who is, tells all; the lowest rank heard tells people.
void Watchdog::Report() {
  const std::string state = State();
  messenger_->SendToAll(state);
  states_[options_.rank] = state;
  LOG(INFO) << "the last calls of rank " << options_.rank << ":" << RingInWords(log_.Calls());
  google::FlushLogFiles(google::INFO);
  for (const auto until = Clock::now() + kGathering;
       Clock::now() < until && static_cast<int>(states_.size()) < options_.size;) {
    ReceiveAll();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const bool tells = states_.begin()->first == options_.rank;
  if (!tells) std::this_thread::sleep_for(kTelling);
  options_.on_hang(tells ? Summary() : "");
}

}  // namespace unipool
