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
#include "data/indexed_dataset.h"
#include "runtime/rng.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Ids with the skew of words in text: id i is about as frequent as 1 / (i + 1).
absl::Status WriteMadeUpText(const std::string& prefix, const config::Run& run) {
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
  return absl::FailedPreconditionError(
      absl::StrCat(parent, ": expected a folder that can be written to: ", std::strerror(errno)));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<MadeUpText> MakeUpText(config::Run* run) {
  MadeUpText text;
  std::error_code error;
  const std::string parent = std::filesystem::temp_directory_path(error).string();
  auto folder = TemporaryFolder::Create(parent);
  if (error || !folder.ok()) {
    return absl::FailedPreconditionError(
        "no folder for made-up data can be made: expected TMPDIR to name one that is writable");
  }
  text.folder = *std::move(folder);
  config::Data& data = *run->mutable_data();
  data.clear_source();
  data.set_prefix(text.folder->path() + "/text");
  data.set_split("90,5,5");
  data.set_order(config::Data::STATELESS);
  RETURN_IF_ERROR(WriteMadeUpText(data.prefix(), *run));
  ASSIGN_OR_RETURN(text.corpus, Corpus::Open(data));
  return text;
}

}  // namespace unipool
