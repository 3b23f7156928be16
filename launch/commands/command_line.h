// The flags and arguments of one command. A usage error is one line that names the argument, what
// was found and what is accepted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace unipool {

// --name VALUE or --name=VALUE. A flag without a value name is a switch.
struct Flag {
  std::string name;  // without the dashes
  // Name of the value in usage texts, "" for a switch. FILE, FOLDER and PREFIX complete to paths,
  // "a|b|c" to these words, and FIELD=VALUE to the fields of a config.
  std::string value;
  std::string help;
  bool is_repeated = false;
};

// Flags and arguments that a command accepts.
struct CommandSpec {
  std::vector<Flag> flags;
  // Names of the positional arguments in their order. Those in brackets, as in "[FOLDER]", are
  // optional and follow all others. The last one may be given several times if its name ends with
  // dots, as in "RUN...".
  std::vector<std::string> arguments = {};
};

// Whether a positional argument of this name may be omitted.
bool IsOptional(const std::string& argument);

class CommandLine {
 public:
  // `args` are the words after the command's name. "--" ends the flags, and -h stands for --help.
  // INVALID_ARGUMENT on a usage error; missing positional arguments are not checked here.
  static absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& args,
                                           const CommandSpec& spec);

  // True if the spec has the flag, given or not.
  bool Accepts(const std::string& flag) const { return values_.count(flag) > 0; }
  // The following functions CHECK that the spec has the flag.
  bool Has(const std::string& flag) const;
  std::string Value(const std::string& flag, const std::string& default_value) const;
  const std::vector<std::string>& Values(const std::string& flag) const;
  // INVALID_ARGUMENT unless the value is an integer of at least `min_value`.
  absl::StatusOr<int64_t> Integer(const std::string& flag, int64_t default_value,
                                  int64_t min_value) const;

  // At most as many as the spec names.
  const std::vector<std::string>& arguments() const { return arguments_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;  // every flag of the spec has an entry
  std::vector<std::string> arguments_;
};

// "usage: COMMAND [flags]" and the help of each flag, in lines of at most 100 columns.
std::string UsageText(const std::string& command, const CommandSpec& spec);

}  // namespace unipool
