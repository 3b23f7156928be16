// The flags and arguments of a sub-command. Every usage error is one line that names the argument
// and what was expected.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace unipool {

// --name VALUE or --name=VALUE; a flag without a value name is a switch.
struct Flag {
  std::string name;   // without the dashes
  std::string value;  // what the usage text calls its value, "" for a switch
  std::string help;
  bool is_repeated = false;
};

// What a sub-command takes.
struct CommandSpec {
  std::vector<Flag> flags;
  std::vector<std::string> arguments = {};  // names of the positional arguments, all optional
};

class CommandLine {
 public:
  // `args` is what follows the sub-command's name. "--" ends the flags. INVALID_ARGUMENT on misuse.
  static absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& args,
                                           const CommandSpec& spec);

  // Whether the spec has the flag.
  bool Knows(const std::string& flag) const { return values_.count(flag) > 0; }
  // Each takes a flag that the spec has.
  bool Has(const std::string& flag) const;
  std::string Value(const std::string& flag, const std::string& otherwise) const;
  const std::vector<std::string>& Values(const std::string& flag) const;
  // INVALID_ARGUMENT unless the value is an integer of at least `least`.
  absl::StatusOr<int64_t> Integer(const std::string& flag, int64_t otherwise, int64_t least) const;

  // At most as many as the spec names.
  const std::vector<std::string>& arguments() const { return arguments_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;  // every flag of the spec has an entry
  std::vector<std::string> arguments_;
};

// "usage: COMMAND [--flag VALUE] ..." with a line a flag.
std::string UsageText(const std::string& command, const CommandSpec& spec);

}  // namespace unipool
