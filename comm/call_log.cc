#include "comm/call_log.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace unipool {
namespace {

void CopyName(const std::string& name, std::array<char, 16>* to) {
  const size_t length = std::min(name.size(), to->size() - 1);
  std::memcpy(to->data(), name.data(), length);
  (*to)[length] = '\0';
}

}  // namespace

void MissingRanks::Add(int rank) {
  int at = 0;
  while (at < count_ && ranks_[at] < rank) ++at;
  if (at < count_ && ranks_[at] == rank) return;
  if (count_ == kMax) {
    more_ = true;
    if (at == kMax) return;
  } else {
    ++count_;
  }
  for (int i = count_ - 1; i > at; --i) ranks_[i] = ranks_[i - 1];
  ranks_[at] = rank;
}

std::string MissingRanks::ToString() const {
  return absl::StrCat(absl::StrJoin(ranks_.begin(), ranks_.begin() + count_, ", "),
                      more_ ? " and others" : "");
}

std::string CallLog::Call::ToString() const {
  return absl::StrCat(name, " #", number, " of group '", group.data(), "' (", progress.ToString(),
                      ")");
}

CallLog::Scope::Scope(CallLog* log, const char* name, const std::string& group, uint64_t number)
    : log_(log) {
  if (log_ != nullptr) index_ = log_->Begin(name, group, number);
}

CallLog::Scope::~Scope() {
  if (log_ != nullptr) log_->End(index_);
}

uint64_t CallLog::Begin(const char* name, const std::string& group, uint64_t number) {
  const std::lock_guard lock(mutex_);
  Call& call = calls_[num_calls_ % kCalls];
  call.name = name;
  CopyName(group, &call.group);
  call.number = number;
  call.progress = progress_.Read();
  call.start = Clock::now();
  call.end = {};
  call.missing = {};
  return num_calls_++;
}

void CallLog::End(uint64_t index) {
  const std::lock_guard lock(mutex_);
  // A later call may have overwritten the entry.
  if (num_calls_ - index <= kCalls) calls_[index % kCalls].end = Clock::now();
}

void CallLog::SetMissing(const std::string& group, uint64_t number, const MissingRanks& missing) {
  const std::lock_guard lock(mutex_);
  for (uint64_t i = num_calls_ - std::min(num_calls_, kCalls); i < num_calls_; ++i) {
    Call& call = calls_[i % kCalls];
    if (call.number == number && call.is_pending() && group == call.group.data()) {
      call.missing = missing;
    }
  }
}

std::vector<CallLog::Call> CallLog::Calls() const {
  const std::lock_guard lock(mutex_);
  std::vector<Call> calls;
  for (uint64_t i = num_calls_ - std::min(num_calls_, kCalls); i < num_calls_; ++i) {
    calls.push_back(calls_[i % kCalls]);
  }
  return calls;
}

std::optional<CallLog::Call> CallLog::OldestPending() const {
  const std::lock_guard lock(mutex_);
  for (uint64_t i = num_calls_ - std::min(num_calls_, kCalls); i < num_calls_; ++i) {
    if (calls_[i % kCalls].is_pending()) return calls_[i % kCalls];
  }
  return std::nullopt;
}

uint64_t CallLog::num_calls() const {
  const std::lock_guard lock(mutex_);
  return num_calls_;
}

std::string CallLog::CurrentActivity() const {
  const std::optional<Call> call = OldestPending();
  return call.has_value() ? call->ToString() : progress_.Read().ToString();
}

}  // namespace unipool
