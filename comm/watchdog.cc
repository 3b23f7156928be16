#include "comm/watchdog.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/clock.h"

namespace unipool {
namespace {

using Clock = CallLog::Clock;

constexpr std::chrono::milliseconds kPollInterval(100);
// A wake-up that is later than this means that the process itself was stopped and has resumed.
constexpr std::chrono::seconds kProcessWasStopped(2);
// Time for the states of other ranks to arrive.
constexpr std::chrono::seconds kGatherTime(2);
// Time for the reporting rank to print, on a slow terminal too, before other ranks end the job.
constexpr std::chrono::seconds kPrintTime(3);
// Shorter waits are normal and not logged.
constexpr std::chrono::milliseconds kShortWait(300);

// Past calls, one per line, oldest first.
std::string ToString(const std::vector<CallLog::Call>& calls) {
  std::string text;
  for (const CallLog::Call& call : calls) {
    const auto end = call.is_pending() ? Clock::now() : call.end;
    absl::StrAppendFormat(&text, "\n  %.3f s ago, %s %.3f s: %s", SecondsSince(call.start),
                          call.is_pending() ? "pending for" : "took",
                          std::chrono::duration<double>(end - call.start).count(), call.ToString());
    if (!call.missing.empty()) {
      absl::StrAppend(&text, ", waited for rank ", call.missing.ToString());
    }
  }
  return text;
}

Watchdog::Options Checked(Watchdog::Options options) {
  CHECK_EQ(static_cast<int>(options.hosts.size()), options.size);
  return options;
}

}  // namespace

Watchdog::Watchdog(const CallLog& log, std::unique_ptr<Messenger> messenger, Options options)
    : log_(log),
      messenger_(std::move(messenger)),
      options_(Checked(std::move(options))),
      last_progress_(Clock::now()),
      last_poll_(last_progress_),
      thread_([this] { Run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::Run() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kPollInterval, [this] { return stopping_; })) {
    UpdateLastProgress();
    WatchTermination();
    if (options_.on_poll) options_.on_poll();
    LogTermination();
    LogRequestedState();
    ReceiveAll();
    // A state of another rank means that this rank's watchdog or that one's has detected a hang.
    if (states_.empty() && !DeadlineExceeded()) continue;
    HandleHang();
    return;
  }
}

// A pending call counts as progress here, because it has its own deadline.
void Watchdog::UpdateLastProgress() {
  const auto now = Clock::now();
  const bool was_stopped = now - std::exchange(last_poll_, now) > kProcessWasStopped;
  const uint64_t activity = log_.progress().changes() + log_.num_calls();
  const bool has_changed = std::exchange(activity_, activity) != activity;
  if (has_changed || was_stopped || log_.OldestPending().has_value()) last_progress_ = now;
}

void Watchdog::WatchTermination() {
  if (!termination_.has_value() && options_.is_terminating()) termination_ = Clock::now();
}

absl::Duration Watchdog::WorkDeadline() const {
  if (!termination_.has_value()) return options_.deadline;
  return std::min(options_.deadline, options_.termination_deadline);
}

bool Watchdog::DeadlineExceeded() const {
  const auto deadline = absl::ToChronoNanoseconds(options_.deadline);
  const std::optional<CallLog::Call> call = log_.OldestPending();
  if (call.has_value()) return Clock::now() - call->start > deadline;
  // Work outside of calls counts as well: the file system or the device may hang while no other
  // rank waits for this one.
  const auto since = std::max(last_progress_, termination_.value_or(last_progress_));
  return log_.progress().is_at_work() &&
         Clock::now() - since > absl::ToChronoNanoseconds(WorkDeadline());
}

void Watchdog::LogTermination() {
  if (termination_logged_ || !termination_.has_value()) return;
  const std::optional<CallLog::Call> call = log_.OldestPending();
  if (!call.has_value() || Clock::now() - call->start < kShortWait) return;
  termination_logged_ = true;
  LOG(WARNING) << "received SIGTERM; " << WaitState(*call);
}

void Watchdog::LogRequestedState() {
  if (!options_.state_requests) return;
  const int requests = options_.state_requests();
  if (std::exchange(state_requests_, requests) != requests) LOG(WARNING) << State();
}

void Watchdog::ReceiveAll() {
  while (std::optional<Messenger::Message> message = messenger_->Receive()) {
    states_[message->from] = std::move(message->text);
  }
}

std::string Watchdog::RankName(int rank) const {
  return absl::StrCat("rank ", rank, " on ", options_.hosts[rank]);
}

// "rank 0 on node1 has waited 3.2 s for rank 2 in AllReduce #4 of group 'world' (step 3,
// gradients)".
std::string Watchdog::WaitState(const CallLog::Call& call) const {
  std::string text =
      absl::StrFormat("%s has waited %.1f s", RankName(options_.rank), SecondsSince(call.start));
  if (!call.missing.empty()) absl::StrAppend(&text, " for rank ", call.missing.ToString());
  return absl::StrCat(text, " in ", call.ToString());
}

std::string Watchdog::State() const {
  const std::optional<CallLog::Call> call = log_.OldestPending();
  if (call.has_value()) return WaitState(*call);
  return absl::StrFormat("%s waits for no rank: %s, for %.1f s", RankName(options_.rank),
                         log_.progress().Read().ToString(), SecondsSince(last_progress_));
}

// The error, and then a line for each rank; ranks that did not respond are last.
std::string Watchdog::Report() const {
  const bool is_shortened = WorkDeadline() < options_.deadline;
  std::string report =
      absl::StrCat("no progress for ", absl::FormatDuration(WorkDeadline()),
                   is_shortened ? " after SIGTERM" : " (parallel.deadline_seconds)",
                   "; check the ranks below that do not respond or wait for no rank, and their "
                   "hosts, then restart from the last checkpoint:");
  std::string unresponsive;
  for (int rank = 0; rank < options_.size; ++rank) {
    const auto state = states_.find(rank);
    if (state == states_.end()) {
      absl::StrAppend(&unresponsive, "\n  ", RankName(rank),
                      " does not respond: its process is stopped or dead, or its host is "
                      "unreachable");
    } else {
      absl::StrAppend(&report, "\n  ", state->second);
    }
  }
  return report + unresponsive;
}

// Every rank that detects a hang, or receives the state of one that did, sends its state to all.
// The lowest rank whose state arrived reports.
void Watchdog::HandleHang() {
  const std::string state = State();
  messenger_->SendToAll(state);
  states_[options_.rank] = state;
  LOG(INFO) << "the last calls of rank " << options_.rank << ":" << ToString(log_.Calls());
  google::FlushLogFiles(google::INFO);
  for (const auto until = Clock::now() + kGatherTime;
       Clock::now() < until && static_cast<int>(states_.size()) < options_.size;) {
    ReceiveAll();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const bool is_reporter = states_.begin()->first == options_.rank;
  if (!is_reporter) std::this_thread::sleep_for(kPrintTime);
  options_.on_hang(is_reporter ? Report() : "");
}

}  // namespace unipool
