#include "launch/config/run_tokenizer.h"

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "runtime/status.h"

namespace unipool {

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenRunTokenizer(const config::Run& run) {
  const config::Data& data = run.data();
  if (data.tokenizer() == config::Data::BYTE) return CreateByteTokenizer();
  if (data.vocab_file().empty()) return std::unique_ptr<Tokenizer>();
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                   OpenGpt2Tokenizer(data.vocab_file(), data.merges_file()));
  if (tokenizer->vocab() <= run.model().vocab()) return tokenizer;
  return absl::InvalidArgumentError(
      absl::StrCat("data.vocab_file: found ", tokenizer->vocab(), " tokens in ", data.vocab_file(),
                   ", but model.vocab = ", run.model().vocab(), "; set model.vocab to at least ",
                   tokenizer->vocab(), " or use a smaller vocabulary"));
}

}  // namespace unipool
