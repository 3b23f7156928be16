#include "launch/train/run_events.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace unipool {
namespace {

constexpr int64_t kTailBytes = 1 << 20;

// The last bytes of a file up to its last line end.
std::string WholeLines(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const int64_t size = file.tellg(), from = std::max<int64_t>(0, size - kTailBytes);
  std::string text(static_cast<size_t>(size - from), '\0');
  file.seekg(from);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  const size_t end = text.rfind('\n');
  return end == std::string::npos ? "" : text.substr(0, end + 1);
}

// Ends the file after its last complete line.
void RemoveUnfinishedLine(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return;
  const int64_t size = file.tellg();
  std::string text(static_cast<size_t>(std::min(size, kTailBytes)), '\0');
  file.seekg(size - static_cast<int64_t>(text.size()));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file || text.empty() || text.back() == '\n') return;
  const size_t end = text.rfind('\n');
  const size_t torn = end == std::string::npos ? text.size() : text.size() - end - 1;
  std::error_code error;
  std::filesystem::resize_file(path, static_cast<uint64_t>(size) - torn, error);
  LOG_IF(WARNING, error) << path << ": cannot remove an unfinished line: " << error.message();
}

}  // namespace

Json LastJsonLine(const std::string& path) {
  const std::string text = WholeLines(path);
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    absl::StatusOr<Json> value = Json::Parse(*line);
    if (value.ok() && value->is_object()) return *std::move(value);
  }
  return Json();
}

RunEvents::RunEvents(const RunFolder& folder) : path_(folder.events()) {
  RemoveUnfinishedLine(path_);
  const Json last = LastJsonLine(path_);
  const Json* const start = last.Find("start");
  if (start != nullptr && start->is_integer()) start_ = static_cast<int>(start->integer()) + 1;
}

void RunEvents::Add(const std::string& event, std::initializer_list<Json::Member> members) {
  Json json = {{"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone())},
               {"start", start_},
               {"event", event}};
  for (const Json::Member& member : members) json.AddMember(member.first, member.second);
  const std::string line = json.Dump() + "\n";
  const int file = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const bool is_written =
      file >= 0 && write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const int error = errno;
  if (file >= 0) {
    fdatasync(file);
    close(file);
  }
  if (is_written) return;
  LOG_IF(WARNING, !warned_) << path_ << ": cannot be written: " << std::strerror(error);
  warned_ = true;
  RemoveUnfinishedLine(path_);
}

}  // namespace unipool
