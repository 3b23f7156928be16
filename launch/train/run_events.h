// The history of a run: events.jsonl in its folder, one JSON object per line. launch/metrics.md
// describes the events.
#pragma once

#include <initializer_list>
#include <string>

#include "launch/checkpoint/run_folder.h"
#include "runtime/json.h"

namespace unipool {

// The last line of a file of JSON objects, such as metrics.jsonl; null if there is none. A line
// that a killed process did not finish is passed over.
Json LastJsonLine(const std::string& path);

// For the first rank of a run. A failed write is one warning and never ends training.
class RunEvents {
 public:
  // Opens the file of a run folder, which must exist, and removes an unfinished last line.
  explicit RunEvents(const RunFolder& folder);

  // Appends an event, with the time of day and the number of this start, and syncs it to disk.
  void Add(const std::string& event, std::initializer_list<Json::Member> members);

 private:
  const std::string path_;
  int start_ = 1;  // number of this start of the run, from 1
  bool warned_ = false;
};

}  // namespace unipool
