#include "runtime/cgroup.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// One mounted hierarchy of groups.
struct Mount {
  std::string root;                      // group that is visible at `folder`
  fs::path folder;                       // where it is mounted
  bool is_v2 = false;                    // version 2 has all controllers in one hierarchy
  std::vector<std::string> controllers;  // version 1: "cpu", "memory", ...
};

std::vector<std::string> ReadLines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// mountinfo writes a space, a tab and a backslash in a path as \ and three octal digits.
std::string Unescape(absl::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 3 < text.size()) {
      for (const char digit : text.substr(i + 1, 3)) code = code * 8 + (digit - '0');
      i += 3;
    }
    result += code > 0 ? static_cast<char>(code) : text[i];
  }
  return result;
}

// A line is "id parent device root folder options [tags] - type source super_options".
std::vector<Mount> ReadMounts(const fs::path& path) {
  std::vector<Mount> mounts;
  for (const std::string& line : ReadLines(path)) {
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    const std::vector<std::string> left = absl::StrSplit(line.substr(0, separator), ' ');
    const std::vector<std::string> right = absl::StrSplit(line.substr(separator + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] != "cgroup" && right[0] != "cgroup2") continue;
    mounts.push_back({.root = Unescape(left[3]),
                      .folder = Unescape(left[4]),
                      .is_v2 = right[0] == "cgroup2",
                      .controllers = absl::StrSplit(right[2], ',')});
  }
  return mounts;
}

bool Controls(const Mount& mount, absl::string_view controller) {
  return std::count(mount.controllers.begin(), mount.controllers.end(), controller) > 0;
}

// True if `mount` is the hierarchy of a comma-separated list of controllers; empty: version 2.
bool IsHierarchy(const Mount& mount, const std::string& controllers) {
  if (controllers.empty() || mount.is_v2) return controllers.empty() && mount.is_v2;
  const std::vector<std::string> names = absl::StrSplit(controllers, ',');
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return Controls(mount, name); });
}

// The folder of `group` below `mount`. The folder of the mount if the group is outside of what the
// mount shows, as in a container whose groups have the names that the host gives them.
fs::path FolderOf(const Mount& mount, const std::string& group) {
  const std::string prefix = mount.root == "/" ? "" : mount.root;
  const bool is_below = group == prefix || group.rfind(prefix + "/", 0) == 0;
  if (!is_below || group.find("/..") != std::string::npos) return mount.folder;
  const fs::path folder = (mount.folder / fs::path(group.substr(prefix.size())).relative_path());
  std::error_code error;
  return fs::is_directory(folder, error) ? folder.lexically_normal() : mount.folder;
}

// The first word of a file as a number; `otherwise` for "max" and for a file that is not there.
double ReadNumber(const fs::path& path, double otherwise) {
  std::ifstream file(path);
  double number = 0;
  return file >> number && number > 0 ? number : otherwise;
}

void LimitCores(double quota, double period, CgroupLimits& limits) {
  if (quota > 0 && period > 0) limits.cores = std::min(limits.cores, quota / period);
}

void LimitMemory(const fs::path& file, const fs::path& group, CgroupLimits& limits) {
  // Version 1 writes the largest multiple of the page size for "unlimited".
  constexpr double kLargest = 1LL << 60;
  const double bytes = ReadNumber(group / file, kLargest);
  if (bytes >= kLargest || static_cast<int64_t>(bytes) >= limits.memory_bytes) return;
  limits.memory_bytes = static_cast<int64_t>(bytes);
  limits.memory_group = group.string();
}

void ApplyGroup(const fs::path& group, const Mount& mount, CgroupLimits& limits) {
  if (mount.is_v2) {
    std::ifstream file(group / "cpu.max");  // "quota period" in microseconds, or "max period"
    double quota = 0, period = 0;
    if (file >> quota >> period) LimitCores(quota, period, limits);
    LimitMemory("memory.max", group, limits);
    LimitMemory("memory.high", group, limits);  // above it the kernel slows the group down
    return;
  }
  if (Controls(mount, "cpu")) {  // a quota of -1 is unlimited
    LimitCores(ReadNumber(group / "cpu.cfs_quota_us", 0),
               ReadNumber(group / "cpu.cfs_period_us", 0), limits);
  }
  if (Controls(mount, "memory")) LimitMemory("memory.limit_in_bytes", group, limits);
}

// Applies the limits of `group` and of all groups above it that the mount shows.
void ApplyGroups(const Mount& mount, const std::string& group, CgroupLimits& limits) {
  const fs::path top = mount.folder.lexically_normal();
  for (fs::path folder = FolderOf(mount, group);; folder = folder.parent_path()) {
    ApplyGroup(folder, mount, limits);
    if (folder == top || folder == folder.parent_path()) return;
  }
}

}  // namespace

CgroupLimits ReadCgroupLimits(const std::string& proc) {
  const std::vector<Mount> mounts = ReadMounts(fs::path(proc) / "mountinfo");
  CgroupLimits limits;
  for (const std::string& line : ReadLines(fs::path(proc) / "cgroup")) {
    // "hierarchy:controllers:group"; the hierarchy of version 2 is "0::group".
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    for (const Mount& mount : mounts) {
      if (IsHierarchy(mount, fields[1])) ApplyGroups(mount, fields[2], limits);
    }
  }
  return limits;
}

}  // namespace unipool
