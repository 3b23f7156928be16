// The progress of `unipool data prepare` on standard error: on a terminal one line that is
// rewritten every 0.5 s, otherwise a line every 10 s.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace unipool {

class PrepareProgress {
 public:
  using Clock = std::chrono::steady_clock;
  struct Done {
    int64_t file_bytes = 0;  // input read, before decompression
    int64_t text_bytes = 0;  // text tokenized and written, after decompression
    int64_t documents = 0;
  };

  static constexpr int64_t kUnknownBytes = -1;  // the total if an input is a pipe

  explicit PrepareProgress(int64_t total_file_bytes);
  PrepareProgress(const PrepareProgress&) = delete;
  PrepareProgress& operator=(const PrepareProgress&) = delete;
  ~PrepareProgress();  // clears the line on a terminal

  // Prints the progress if the interval since the last print has passed.
  void Show(const Done& done);

 private:
  const int64_t total_file_bytes_;
  const bool is_terminal_;
  const Clock::time_point start_;
  Clock::time_point next_;
};

// "[######--------------]  30 % of 38.8 MB, 25.1 MB/s of text, 1200 documents, ETA 0:12";
// without a known total "11.6 MB read, 25.1 MB/s of text, 1200 documents".
std::string ProgressText(const PrepareProgress::Done& done, int64_t total_file_bytes,
                         double seconds);

}  // namespace unipool
