#include "runtime/profiler.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace unipool {

Profiler::Scope::Scope(Profiler* profiler, const char* name)
    : profiler_(profiler != nullptr && profiler->enabled() ? profiler : nullptr), name_(name) {
  if (profiler_ == nullptr) return;
  if (profiler_->clock_ != nullptr) {
    mark_ = profiler_->clock_->Mark();
  } else {
    start_ = std::chrono::steady_clock::now();
  }
}

Profiler::Scope::~Scope() {
  if (profiler_ == nullptr) return;
  if (profiler_->clock_ != nullptr) {
    profiler_->pending_.push_back({name_, mark_, profiler_->clock_->Mark()});
    return;
  }
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  profiler_->Add(name_, std::chrono::duration<double>(elapsed).count());
}

void Profiler::Add(const char* name, double seconds) {
  auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) {
    return e.name == name || std::strcmp(e.name, name) == 0;
  });
  if (entry == entries_.end()) entry = entries_.insert(entry, Entry{name});
  ++entry->calls;
  entry->seconds += seconds;
}

void Profiler::set_device_clock(std::unique_ptr<DeviceClock> clock) {
  Settle();
  clock_ = std::move(clock);
}

void Profiler::Settle() {
  for (const Pending& scope : pending_) {
    Add(scope.name, clock_->Seconds(scope.begin, scope.end));
  }
  pending_.clear();
  if (clock_ != nullptr) clock_->Restart();
}

// Entries are kept, so that a step after the first finds its names and allocates nothing.
void Profiler::Reset() {
  Settle();
  for (Entry& entry : entries_) entry = Entry{entry.name};
}

double Profiler::Seconds(const char* name) {
  Settle();
  for (const Entry& entry : entries_) {
    if (std::strcmp(entry.name, name) == 0) return entry.seconds;
  }
  return 0;
}

std::vector<Profiler::Entry> Profiler::Entries() {
  Settle();
  std::vector<Entry> sorted = entries_;
  std::sort(sorted.begin(), sorted.end(),
            [](const Entry& a, const Entry& b) { return a.seconds > b.seconds; });
  return sorted;
}

std::string Profiler::Table(double total_seconds) {
  std::string table = absl::StrFormat("%-36s %9s %10s %7s\n", "what", "calls", "seconds", "share");
  for (const Entry& entry : Entries()) {
    if (entry.calls == 0) continue;
    absl::StrAppendFormat(&table, "%-36s %9d %10.4f %6.1f%%\n", entry.name, entry.calls,
                          entry.seconds, 100.0 * entry.seconds / total_seconds);
  }
  return table;
}

}  // namespace unipool
