#include "data/prepare/tokenize_pool.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "data/prepare/json_lines.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

// Tokenizes blocks one after another, on one thread.
class BlockTokenizer {
 public:
  BlockTokenizer(const Tokenizer& tokenizer, const TokenizeRules& rules)
      : end_of_document_(tokenizer.end_of_document()),
        rules_(rules),
        encoder_(tokenizer.NewEncoder()) {}

  void Run(TextBlock* block) {
    block->ids.clear();
    block->ends.clear();
    block->lines = block->blank_lines = block->special_lines = 0;
    block->bad_lines = block->first_bad_line = 0;
    if (block->is_json_lines) {
      AddLines(block);
    } else {
      AddPlain(block);
    }
  }

 private:
  void AddLines(TextBlock* block) {
    for (absl::string_view rest = block->text; !rest.empty();) {
      const absl::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      ++block->lines;
      if (IsBlankLine(line)) {
        ++block->blank_lines;
        continue;
      }
      const absl::Status status = TextOfJson(line, rules_.text_field, &found_);
      if (status.ok()) {
        block->special_lines += found_.has_special_number ? 1 : 0;
        AddDocument(found_.text, block);
        continue;
      }
      if (block->bad_lines++ == 0) {
        block->first_bad_line = block->lines;
        block->first_problem = std::string(status.message());
      }
      if (!rules_.skip_bad) return;
    }
  }

  void AddPlain(TextBlock* block) {
    const size_t valid = ValidUtf8Bytes(block->text);
    if (valid < block->text.size()) {
      block->bad_lines = 1;
      block->first_problem =
          absl::StrCat("byte ", block->document_byte + static_cast<int64_t>(valid),
                       " of the text is not UTF-8; convert the file to UTF-8");
      return;
    }
    encoder_->Encode(block->text, &block->ids);
    if (!block->ends_document) return;
    const bool is_empty = block->document_byte == 0 && block->text.empty();
    if (!is_empty) block->ids.push_back(end_of_document_);
    block->ends.push_back(static_cast<int64_t>(block->ids.size()));
  }

  void AddDocument(absl::string_view text, TextBlock* block) {
    if (!text.empty()) {
      encoder_->Encode(text, &block->ids);
      block->ids.push_back(end_of_document_);
    }
    block->ends.push_back(static_cast<int64_t>(block->ids.size()));
  }

  const int32_t end_of_document_;
  const TokenizeRules& rules_;
  std::unique_ptr<TextEncoder> encoder_;
  JsonText found_;
};

}  // namespace

TokenizePool::TokenizePool(const Tokenizer& tokenizer, const TokenizeRules& rules, int workers)
    : tokenizer_(tokenizer), rules_(rules) {
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { Work(); });
}

TokenizePool::~TokenizePool() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    waiting_.clear();
  }
  has_work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void TokenizePool::Submit(std::unique_ptr<TextBlock> block) {
  text_bytes_ += block->text.size();
  order_.push_back(std::make_unique<Job>(Job{.block = std::move(block)}));
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(order_.back().get());
  }
  has_work_.notify_one();
}

std::unique_ptr<TextBlock> TokenizePool::Take() {
  CHECK(!order_.empty());
  const std::unique_ptr<Job> job = std::move(order_.front());
  order_.pop_front();
  std::unique_lock lock(mutex_);
  has_result_.wait(lock, [&] { return job->is_done; });
  text_bytes_ -= job->block->text.size();
  return std::move(job->block);
}

void TokenizePool::Work() {
  BlockTokenizer tokenizer(tokenizer_, rules_);
  std::unique_lock lock(mutex_);
  while (true) {
    has_work_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
    if (is_stopping_) return;
    Job* const job = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    tokenizer.Run(job->block.get());
    lock.lock();
    job->is_done = true;
    has_result_.notify_one();
  }
}

}  // namespace unipool
