// How far `unipool data prepare` is: on a terminal one line that is rewritten, else a line now and
// then. On standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace unipool {

class PrepareProgress {
 public:
  using Clock = std::chrono::steady_clock;
  struct Done {
    int64_t file_bytes = 0;  // read of the files, packed where they are
    int64_t text_bytes = 0;
    int64_t documents = 0;
  };

  explicit PrepareProgress(int64_t total_file_bytes);
  PrepareProgress(const PrepareProgress&) = delete;
  PrepareProgress& operator=(const PrepareProgress&) = delete;
  ~PrepareProgress();  // clears the line of a terminal

  void Show(const Done& done);

 private:
  const int64_t total_file_bytes_;
  const bool is_terminal_;
  const Clock::time_point start_;
  Clock::time_point next_;
};

// "[######--------------]  30 % of 38.8 MB, 25.1 MB/s of text, 1200 documents, 0:12 left"
std::string ProgressText(const PrepareProgress::Done& done, int64_t total_file_bytes,
                         double seconds);

}  // namespace unipool
