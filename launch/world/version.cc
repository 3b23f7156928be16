#include "launch/world/version.h"

#include <dlfcn.h>
#include <google/protobuf/message.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "comm/mpi_communicator.h"
#include "comm/nccl_communicator.h"
#include "runtime/blas.h"
#include "runtime/build_config.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

// protobuf 3 has no function that returns its version at run time, so `found` is the name of the
// library's file, which ends with the version.
LibraryVersion ProtobufVersion() {
  LibraryVersion version{.built = absl::StrCat(GOOGLE_PROTOBUF_VERSION / 1000000, ".",
                                               GOOGLE_PROTOBUF_VERSION / 1000 % 1000, ".",
                                               GOOGLE_PROTOBUF_VERSION % 1000)};
  Dl_info info{};
  const auto* const address =
      reinterpret_cast<const void*>(&google::protobuf::ShutdownProtobufLibrary);
  if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return version;
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical(info.dli_fname, error);
  if (!error) version.found = file.filename().string();
  return version;
}

LibraryVersion CudaVersionOfBuild() {
  if constexpr (kEmulatesCuda) return {.built = "emulated on the CPU", .found = "emulated"};
  if constexpr (kWithCuda) return CudaVersion();
  return {};
}

LibraryVersion CudnnVersionOfBuild() {
  if constexpr (kWithCuda) return CudnnVersion();
  return {};
}

}  // namespace

std::string VersionLine() {
  return absl::StrCat(kBuildInfo.version, " (revision ", kBuildInfo.revision,
                      kBuildInfo.is_dirty ? ", modified" : "", "), ", kBuildInfo.compiler, ", ",
                      kBuildInfo.options);
}

std::vector<NamedVersion> LibraryVersions() {
  return {{"CUDA", CudaVersionOfBuild()}, {"NCCL", NcclVersion()}, {"cuDNN", CudnnVersionOfBuild()},
          {"BLAS", BlasVersion()},        {"MPI", MpiVersion()},   {"protobuf", ProtobufVersion()}};
}

}  // namespace unipool
