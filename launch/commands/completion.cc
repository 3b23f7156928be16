#include "launch/commands/completion.h"

#include <functional>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "configs/run.pb.h"
#include "launch/config/config_fields.h"

namespace unipool {
namespace {

// What completes a value or argument of this name: "files", "folders", "fields", "commands", words
// separated by spaces in parentheses, or "" for nothing.
std::string Completes(const std::string& name) {
  if (name == "FILE" || name == "PREFIX") return "files";
  for (const char* folder : {"FOLDER", "CHECKPOINT", "OTHER", "RUN..."}) {
    if (name == folder) return "folders";
  }
  if (name == "FIELD=VALUE") return "fields";
  if (name == "[COMMAND]") return "commands";
  if (!absl::StrContains(name, '|')) return "";
  std::vector<std::string> words;
  for (const absl::string_view word : absl::StrSplit(name, '|')) {
    const bool is_name = absl::AsciiStrToUpper(word) == word;  // as LIST in deep|all|LIST
    if (!is_name) words.emplace_back(word);
  }
  return absl::StrCat("(", absl::StrJoin(words, " "), ")");
}

// Calls `visit` for each command without sub-commands, with the words after "unipool".
void ForEach(const std::vector<Command>& commands, const std::string& group,
             const std::function<void(const std::string& path, const Command& command)>& visit) {
  for (const Command& command : commands) {
    const std::string path = absl::StrCat(group, group.empty() ? "" : " ", command.name);
    if (command.subs.empty()) visit(path, command);
    ForEach(command.subs, path, visit);
  }
}

std::string JoinNames(const std::vector<Command>& commands) {
  return absl::StrJoin(commands, " ", [](std::string* text, const Command& command) {
    absl::StrAppend(text, command.name);
  });
}

std::string Fields(const char* separator) {
  return absl::StrCat(absl::StrJoin(FieldPaths(config::Run()), absl::StrCat("=", separator)), "=");
}

// The bash command that completes $word by one of the kinds of Completes().
std::string BashAction(const std::string& kind) {
  if (kind == "files") return "_unipool_reply -f; compopt -o filenames";
  if (kind == "folders") return "_unipool_reply -d; compopt -o filenames";
  if (kind == "fields") return "_unipool_reply -W \"$fields\"; compopt -o nospace";
  if (kind == "commands") return "_unipool_reply -W \"$commands\"";
  if (kind.empty()) return ":";
  return absl::StrCat("_unipool_reply -W '", absl::StripSuffix(absl::StripPrefix(kind, "("), ")"),
                      "'");
}

// `case` branches "'train --config' | 'data batch --config') ACTION; return ;;", one for each kind.
std::string BashValues(const std::vector<Command>& commands) {
  std::map<std::string, std::vector<std::string>> flags_of_kind;
  ForEach(commands, "", [&](const std::string& path, const Command& command) {
    for (const Flag& flag : command.spec.flags) {
      if (flag.value.empty()) continue;
      flags_of_kind[Completes(flag.value)].push_back(
          absl::StrCat("'", path, " --", flag.name, "'"));
    }
  });
  std::string text;
  for (const auto& [kind, flags] : flags_of_kind) {
    absl::StrAppend(&text, "    ", absl::StrJoin(flags, " | \\\n      "), ")\n      ",
                    BashAction(kind), "\n      return ;;\n");
  }
  return text;
}

// `case` branches that set `flags`, and complete the arguments of each command.
std::string BashCommands(const std::vector<Command>& commands) {
  std::string text;
  ForEach(commands, "", [&](const std::string& path, const Command& command) {
    std::string flags;
    for (const Flag& flag : command.spec.flags) absl::StrAppend(&flags, " --", flag.name);
    absl::StrAppend(&text, "    '", path, "')\n      flags='", absl::StripPrefix(flags, " "),
                    "'\n");
    if (!command.spec.arguments.empty()) {
      absl::StrAppend(&text, "      if [[ $word != -* ]]; then\n        ",
                      BashAction(Completes(command.spec.arguments[0])),
                      "\n        return\n      fi\n");
    }
    absl::StrAppend(&text, "      ;;\n");
  });
  return text;
}

// `text` inside single quotes of zsh and inside the brackets of a specification of _arguments.
std::string ZshText(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"'", "'\\''"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}, {"\\", "\\\\"}});
}

std::string ZshAction(const std::string& kind) {
  if (kind == "files") return "_files";
  if (kind == "folders") return "_files -/";
  if (kind == "fields") return "_unipool_fields";
  if (kind == "commands") return "_unipool_commands";
  return kind.empty() ? " " : kind;
}

std::string ZshArguments(const CommandSpec& spec) {
  std::string text = "_arguments";
  for (const Flag& flag : spec.flags) {
    absl::StrAppend(&text, " \\\n        '", flag.is_repeated ? "*" : "", "--", flag.name,
                    flag.value.empty() ? "" : "=", "[", ZshText(flag.help), "]");
    if (!flag.value.empty()) {
      absl::StrAppend(&text, ":", ZshText(flag.value), ":", ZshAction(Completes(flag.value)));
    }
    absl::StrAppend(&text, "'");
  }
  for (const std::string& argument : spec.arguments) {
    absl::StrAppend(&text, " \\\n        ':", ZshText(argument), ":",
                    ZshAction(Completes(argument)), "'");
  }
  return text;
}

// A zsh array "'NAME:summary' ..." for _describe.
std::string ZshDescriptions(const std::vector<Command>& commands) {
  std::string text;
  for (const Command& command : commands) {
    absl::StrAppend(&text, "\n    '", command.name, ":", ZshText(command.summary), "'");
  }
  return text;
}

}  // namespace

std::string BashCompletion(const std::vector<Command>& commands) {
  std::string groups;
  for (const Command& command : commands) {
    if (command.subs.empty()) continue;
    absl::StrAppend(&groups, "    ", command.name, ") subs='", JoinNames(command.subs), "' ;;\n");
  }
  return absl::StrCat(R"(# shellcheck shell=bash
# Completion of unipool in bash; written by `unipool help --bash`.
_unipool_reply() { mapfile -t COMPREPLY < <(compgen "$@" -- "$word"); }

_unipool() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local path=${COMP_WORDS[1]} subs="" flags="" first=2
  local commands=')",
                      JoinNames(commands), "'\n  local fields='\n", Fields("\n"), R"('
  COMPREPLY=()
  # bash splits --name=VALUE at the equals sign.
  if [[ $word == = ]]; then
    word=""
  elif [[ $previous == = ]]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if ((COMP_CWORD == 1)); then
    _unipool_reply -W "$commands --help --version"
    return
  fi
  case $path in
)",
                      groups, R"(  esac
  if [[ -n $subs ]]; then
    if ((COMP_CWORD == 2)); then
      _unipool_reply -W "$subs --help"
      return
    fi
    path="$path ${COMP_WORDS[2]}" first=3
  fi
  case "$path $previous" in
)",
                      BashValues(commands), R"(  esac
  case $path in
)",
                      BashCommands(commands), R"(  esac
  ((COMP_CWORD < first)) || _unipool_reply -W "$flags"
}
complete -F _unipool unipool
)");
}

std::string ZshCompletion(const std::vector<Command>& commands) {
  std::string cases;
  for (const Command& command : commands) {
    absl::StrAppend(&cases, "    ", command.name, ")\n");
    if (command.subs.empty()) {
      absl::StrAppend(&cases, "      ", ZshArguments(command.spec), " ;;\n");
      continue;
    }
    absl::StrAppend(&cases, "      subs=(", ZshDescriptions(command.subs),
                    ")\n      if ((CURRENT == 2)); then\n        _describe sub-command subs\n"
                    "        return\n      fi\n      shift words\n      ((CURRENT--))\n"
                    "      case $words[1] in\n");
    for (const Command& sub : command.subs) {
      absl::StrAppend(&cases, "        ", sub.name, ")\n          ", ZshArguments(sub.spec),
                      " ;;\n");
    }
    absl::StrAppend(&cases, "      esac ;;\n");
  }
  return absl::StrCat(
      "#compdef unipool\n# Completion of unipool in zsh; written by `unipool help --zsh`.\n"
      "_unipool_commands() {\n  local -a commands=(",
      ZshDescriptions(commands),
      ")\n  _describe command commands\n}\n\n_unipool_fields() {\n"
      "  local -a fields=(\n",
      Fields("\n"),
      ")\n  compadd -S '' -- $fields\n}\n\n"
      "_unipool() {\n  local -a subs\n  if ((CURRENT == 2)); then\n"
      "    _unipool_commands\n    return\n  fi\n  shift words\n  ((CURRENT--))\n"
      "  case $words[1] in\n",
      cases, "  esac\n}\n\n_unipool \"$@\"\n");
}

}  // namespace unipool
