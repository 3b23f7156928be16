// Converts blocks of text to token ids on several threads and returns them in the order of
// submission, so that the result does not depend on the number of threads.
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

// A block of text and its tokens. The text is JSON lines with one document each, or a part of a
// plain document.
struct TextBlock {
  std::string text;
  bool is_json_lines = false;
  int64_t document_byte = 0;   // of a plain document: position of the text in it
  bool ends_document = false;  // whether this is its last part

  // Set by the pool.
  std::vector<int32_t> ids;    // of all documents, each followed by its end-of-document id
  std::vector<int64_t> ends;   // end of each document that ends in `ids`; an empty text has no ids
  int64_t lines = 0;           // lines read, up to the first bad one unless skip_bad
  int64_t blank_lines = 0;     // passed over
  int64_t special_lines = 0;   // with NaN, Infinity or a number beyond the range of a double
  int64_t bad_lines = 0;       // lines without a document; 1 for a bad part of a plain one
  int64_t first_bad_line = 0;  // counted from 1 in this block
  std::string first_problem;   // what is wrong with that line, and what was expected
};

struct TokenizeRules {
  std::string text_field;  // of a JSON line
  bool skip_bad = false;   // continue after a bad line
};

// Owns the threads. One thread may call it. `tokenizer` and `rules` are borrowed and must outlive
// it.
class TokenizePool {
 public:
  TokenizePool(const Tokenizer& tokenizer, const TokenizeRules& rules, int workers);
  TokenizePool(const TokenizePool&) = delete;
  TokenizePool& operator=(const TokenizePool&) = delete;
  ~TokenizePool();  // drops blocks that were not taken

  // True if the pool holds enough blocks to keep its workers busy, or 256 MiB of text: call Take
  // before the next Submit.
  bool is_full() const {
    return order_.size() >= 2 * threads_.size() + 1 || text_bytes_ >= kMaxTextBytes;
  }
  bool is_empty() const { return order_.empty(); }
  void Submit(std::unique_ptr<TextBlock> block);
  // Waits for the oldest block and returns it. The pool must not be empty (CHECK).
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
  std::deque<std::unique_ptr<Job>> order_;  // oldest first; used by the calling thread
  size_t text_bytes_ = 0;                   // total text in order_
  std::mutex mutex_;
  std::condition_variable has_work_, has_result_;
  std::deque<Job*> waiting_;  // guarded by mutex_, like is_done of each job
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace unipool
