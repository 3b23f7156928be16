#include "launch/commands/command_line.h"

#include <glog/logging.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "launch/config/nearest_name.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr size_t kHelpColumns = 100;

absl::Status UsageError(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::StatusOr<const Flag*> FindFlag(const std::string& name, const CommandSpec& spec) {
  std::vector<std::string> names;
  for (const Flag& flag : spec.flags) {
    if (flag.name == name) return &flag;
    names.push_back("--" + flag.name);
  }
  const std::string hint = DidYouMean("--" + name, names);
  return UsageError(absl::StrCat("--", name, ": unknown flag",
                                 hint.empty() ? "" : absl::StrCat(" (", hint, ")")));
}

// `text` in lines of at most `columns`, broken between words.
std::vector<std::string> Wrap(const std::string& text, size_t columns) {
  std::vector<std::string> lines = {""};
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    std::string& line = lines.back();
    if (line.empty()) {
      line = std::string(word);
    } else if (line.size() + 1 + word.size() <= columns) {
      absl::StrAppend(&line, " ", word);
    } else {
      lines.emplace_back(word);
    }
  }
  return lines;
}

}  // namespace

bool IsOptional(const std::string& argument) { return absl::StartsWith(argument, "["); }

absl::StatusOr<CommandLine> CommandLine::Parse(const std::vector<std::string>& args,
                                               const CommandSpec& spec) {
  CommandLine line;
  for (const Flag& flag : spec.flags) line.values_[flag.name];
  bool flags_ended = false;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i] == "-h" && line.Accepts("help") ? "--help" : args[i];
    if (!flags_ended && arg == "--") {
      flags_ended = true;
      continue;
    }
    if (flags_ended || !absl::StartsWith(arg, "-") || arg == "-") {
      const bool is_list = !spec.arguments.empty() && absl::EndsWith(spec.arguments.back(), "...");
      if (line.arguments_.size() >= spec.arguments.size() && !is_list) {
        return UsageError(absl::StrCat("\"", arg, "\": unexpected argument"));
      }
      line.arguments_.push_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    const bool has_value = equals != std::string::npos;
    const size_t dashes = absl::StartsWith(arg, "--") ? 2 : 1;
    const std::string name = arg.substr(dashes, has_value ? equals - dashes : std::string::npos);
    ASSIGN_OR_RETURN(const Flag* flag, FindFlag(name, spec));
    if (flag->value.empty() && has_value)
      return UsageError(absl::StrCat(arg, ": --", name, " takes no value"));
    std::vector<std::string>& values = line.values_[name];
    if (!values.empty() && !flag->is_repeated) {
      return UsageError(absl::StrCat("--", name, ": given twice; give it once"));
    }
    if (has_value || flag->value.empty()) {
      values.push_back(has_value ? arg.substr(equals + 1) : "");
      continue;
    }
    if (i + 1 == args.size() || absl::StartsWith(args[i + 1], "--")) {
      return UsageError(
          absl::StrCat("--", name, ": value missing; give --", name, " ", flag->value));
    }
    values.push_back(args[++i]);
  }
  return line;
}

const std::vector<std::string>& CommandLine::Values(const std::string& flag) const {
  const auto found = values_.find(flag);
  CHECK(found != values_.end()) << "the spec has no flag --" << flag;
  return found->second;
}

bool CommandLine::Has(const std::string& flag) const { return !Values(flag).empty(); }

std::string CommandLine::Value(const std::string& flag, const std::string& default_value) const {
  return Has(flag) ? Values(flag).back() : default_value;
}

absl::StatusOr<int64_t> CommandLine::Integer(const std::string& flag, int64_t default_value,
                                             int64_t min_value) const {
  if (!Has(flag)) return default_value;
  const std::string text = Value(flag, "");
  int64_t value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= min_value) return value;
  return UsageError(
      absl::StrCat("--", flag, "=", text, ": expected an integer of at least ", min_value));
}

std::string UsageText(const std::string& command, const CommandSpec& spec) {
  std::string text = absl::StrCat("usage: ", command);
  for (const std::string& argument : spec.arguments) absl::StrAppend(&text, " ", argument);
  absl::StrAppend(&text, spec.flags.empty() ? "\n" : " [flags]\n");
  size_t width = 0;
  for (const Flag& flag : spec.flags) {
    width = std::max(width, flag.name.size() + flag.value.size());
  }
  const size_t indent = width + 7;
  for (const Flag& flag : spec.flags) {
    const std::string help =
        absl::StrCat(flag.help, flag.is_repeated ? " (may be given several times)" : "");
    absl::StrAppendFormat(&text, "  --%-*s  %s\n", static_cast<int>(width) + 1,
                          absl::StrCat(flag.name, " ", flag.value),
                          absl::StrJoin(Wrap(help, kHelpColumns - indent),
                                        absl::StrCat("\n", std::string(indent, ' '))));
  }
  return text;
}

}  // namespace unipool
