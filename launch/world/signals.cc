#include "launch/world/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "launch/world/exit_codes.h"

namespace unipool {
namespace {

struct NamedSignal {
  int number;
  const char* name;
};
constexpr NamedSignal kSignals[] = {{SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"},
                                    {SIGXCPU, "SIGXCPU"}, {SIGHUP, "SIGHUP"},
                                    {SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}};

// Global because signals are sent to the process. Only the handler writes them.
std::atomic<int> first_signal{0};
std::atomic<int> interrupts{0};
std::atomic<bool> termination{false};
std::atomic<int> state_requests{0};
static_assert(std::atomic<int>::is_always_lock_free);

void HandleSignal(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGTERM) termination = true;
  if (signal == SIGINT && interrupts.fetch_add(1) > 0) _exit(kExitInterrupted);
}

void CountStateRequest(int) { state_requests.fetch_add(1); }

}  // namespace

void WatchSignals() {
  struct sigaction action = {};
  action.sa_handler = &HandleSignal;
  action.sa_flags = SA_RESTART;  // system calls in progress continue
  sigfillset(&action.sa_mask);
  for (const NamedSignal& signal : kSignals) {
    struct sigaction former = {};
    sigaction(signal.number, nullptr, &former);
    const bool is_nohup = signal.number == SIGHUP && former.sa_handler == SIG_IGN;
    if (!is_nohup) sigaction(signal.number, &action, nullptr);
  }
  action.sa_handler = &CountStateRequest;
  sigaction(SIGQUIT, &action, nullptr);
  sigaction(SIGALRM, &action, nullptr);
}

void IgnoreFileSizeSignal() { signal(SIGXFSZ, SIG_IGN); }

void IgnorePipeSignal() { signal(SIGPIPE, SIG_IGN); }

int ReceivedSignal() { return first_signal; }

int StateRequests() { return state_requests; }

bool SigtermReceived() { return termination; }

const char* SignalName(int signal) {
  for (const NamedSignal& named : kSignals) {
    if (named.number == signal) return named.name;
  }
  return "a signal";
}

}  // namespace unipool
