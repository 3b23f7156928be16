// Which build of the program this is, and which libraries it runs with: for `unipool --version`,
// the log, the manifest of a checkpoint and reports.
#pragma once

#include <string>
#include <vector>

#include "runtime/library_version.h"

namespace unipool {

// Facts that CMake determines at build time (tools/build_info.cmake writes their values).
struct BuildInfo {
  const char* version;   // of the project, as "0.1.0"
  const char* revision;  // 12 digits of the git commit, or "unknown" outside a git checkout
  bool is_dirty;         // tracked files differed from that commit
  const char* compiler;  // as "GNU 12.2.0"
  const char* options;   // that affect speed, as "Release, -march=x86-64-v3"
};
extern const BuildInfo kBuildInfo;

// "0.1.0 (revision 0123456789ab, modified), GNU 12.2.0, Release, -march=x86-64-v3".
std::string VersionLine();

struct NamedVersion {
  std::string name;
  LibraryVersion version;
};
// CUDA, NCCL, cuDNN, BLAS, MPI and protobuf, in this order. Loads NCCL and cuDNN.
std::vector<NamedVersion> LibraryVersions();

}  // namespace unipool
