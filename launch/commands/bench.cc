#include "launch/commands/bench.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "data/indexed_dataset.h"
#include "runtime/rng.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Token ids with word frequencies like those of natural text (Zipf's law): the frequency of id i is
// about proportional to 1 / (i + 1).
absl::Status WriteTokens(const std::string& prefix, const config::Run& run) {
  const int64_t vocab = run.model().vocab(), length = run.model().sequence() + 1;
  ASSIGN_OR_RETURN(auto writer, IndexedDatasetWriter::Create(prefix, vocab));
  const Rng rng(run.seed(), StreamId("bench"));
  std::vector<int32_t> document(static_cast<size_t>(length));
  for (int64_t d = 0; d < 4 * run.data().global_batch() + 40; ++d) {
    for (int64_t i = 0; i < length; ++i) {
      const double u = rng.Uniform(static_cast<uint64_t>(d * length + i));
      document[i] = static_cast<int32_t>(
          std::min<double>(vocab - 1, std::pow(static_cast<double>(vocab), u) - 1));
    }
    RETURN_IF_ERROR(writer->AddDocument(document));
  }
  return writer->Finish();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TemporaryFolder>> TemporaryFolder::Create(
    const std::string& parent) {
  std::string path = absl::StrCat(parent, "/unipool-bench-XXXXXX");
  if (mkdtemp(path.data()) != nullptr) {
    return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(path));
  }
  return absl::FailedPreconditionError(absl::StrCat(parent, ": no folder can be made here (",
                                                    std::strerror(errno),
                                                    "); choose a writable folder"));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<SyntheticText> WriteSyntheticText(config::Run* run) {
  SyntheticText text;
  std::error_code error;
  const std::string parent = std::filesystem::temp_directory_path(error).string();
  auto folder = TemporaryFolder::Create(parent);
  if (error || !folder.ok()) {
    return absl::FailedPreconditionError(
        "the temporary folder for synthetic data cannot be made; set TMPDIR to a writable folder");
  }
  text.folder = *std::move(folder);
  config::Data& data = *run->mutable_data();
  data.clear_source();
  data.set_prefix(text.folder->path() + "/text");
  data.set_split("90,5,5");
  data.set_order(config::Data::STATELESS);
  RETURN_IF_ERROR(WriteTokens(data.prefix(), *run));
  ASSIGN_OR_RETURN(text.corpus, Corpus::Open(data));
  return text;
}

}  // namespace unipool
