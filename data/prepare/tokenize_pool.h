// Blocks of text to token ids, on several threads, given back in the order they came: the outcome
// does not depend on how many threads there are.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "data/tokenizer.h"

namespace unipool {

// Lines of JSON, a document each, or one document; and what becomes of it.
struct TextBlock {
  std::string text;
  bool is_json_lines = false;

  std::vector<int32_t> ids;       // of all documents, each with its end
  std::vector<int64_t> ends;      // in `ids`, of each document; an empty text has no ids
  int64_t lines = 0;              // seen; where the first bad one ended the work, its number
  int64_t bad_lines = 0;          // without a document; 1 where the one document is bad
  int64_t first_bad_line = 0;     // from 1, in this block
  std::string first_bad_line_is;  // what is wrong with it, and what was expected
};

struct TokenizeRules {
  std::string text_field;
  bool skip_bad = false;  // goes on after a bad line
};

// One thread, the caller's, submits and takes; `tokenizer` and `rules` are borrowed.
class TokenizePool {
 public:
  TokenizePool(const Tokenizer& tokenizer, const TokenizeRules& rules, int workers);
  TokenizePool(const TokenizePool&) = delete;
  TokenizePool& operator=(const TokenizePool&) = delete;
  ~TokenizePool();  // drops what was not taken

  // Enough blocks to keep the workers busy are under way, or more bytes than is good for the
  // memory: take one first.
  bool is_full() const {
    return order_.size() >= 2 * threads_.size() + 1 || text_bytes_ >= kMaxTextBytes;
  }
  bool is_empty() const { return order_.empty(); }
  void Submit(std::unique_ptr<TextBlock> block);
  // The oldest block, once it is done. Waits.
  std::unique_ptr<TextBlock> Take();

 private:
  static constexpr size_t kMaxTextBytes = size_t{256} << 20;

  struct Job {
    std::unique_ptr<TextBlock> block;
    bool is_done = false;
  };

  void Work();

  const Tokenizer& tokenizer_;
  const TokenizeRules& rules_;
  std::deque<std::unique_ptr<Job>> order_;  // the caller's
  size_t text_bytes_ = 0;                   // in them
  std::mutex mutex_;
  std::condition_variable has_work_, has_result_;
  std::deque<Job*> waiting_;  // under the mutex, as each job's is_done
  bool is_over_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace unipool
