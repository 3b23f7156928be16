#include "launch/commands/man_page.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "launch/world/version.h"

namespace unipool {
namespace {

constexpr char kDescription[] =
    R"(.SH DESCRIPTION
UniPool pretrains Mixture-of-Experts language models whose layers route into one global pool of
experts. It runs on CPUs over MPI and on CUDA GPUs over NCCL. A single process needs no launcher;
.B unipool\-mpirun
starts several ranks:
.PP
.RS 4
.nf
unipool\-mpirun \-np 2 unipool train \-\-config FILE
.fi
.RE
.PP
A config is a textproto of the message Run. Each command that reads one accepts
.B \-\-set
to override a field of it.
)";

constexpr char kEnd[] =
    R"(.SH EXIT STATUS
.TP
.B 0
success
.TP
.B 1
an internal failure; the log describes it
.TP
.B 2
a wrong flag, config or input file; nothing was written
.TP
.B 3
training diverged: the loss or a gradient is not finite
.TP
.B 75
stopped on request or near a time limit, with a checkpoint; the same command resumes the run
.TP
.B 76
a rank, its host or the connection to it was lost
.TP
.B 77
a rank did not arrive within parallel.deadline_seconds
.TP
.B 130
a second SIGINT ended the run without a checkpoint
.SH ENVIRONMENT
.TP
.B OMP_NUM_THREADS
CPU threads of each rank, unless
.B \-\-threads
or parallel.threads is given
.TP
.B UNIPOOL_NCCL
path of the NCCL library to load instead of libnccl.so.2
.TP
.B UNIPOOL_CUDNN
0 computes attention with the program's own kernels instead of cuDNN
.SH SEE ALSO
.BR mpirun (1),
.BR sbatch (1)
)";

// Plain text as roff input: no character of it is a control character.
std::string Roff(const std::string& text) {
  std::string escaped = absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
  // A line that starts with one of these would be a request.
  if (absl::StartsWith(escaped, ".") || absl::StartsWith(escaped, "'")) escaped = "\\&" + escaped;
  return escaped;
}

std::string FlagText(const Flag& flag) {
  std::string text = absl::StrCat(".TP\n\\fB", Roff("--" + flag.name), "\\fR");
  if (!flag.value.empty()) absl::StrAppend(&text, " \\fI", Roff(flag.value), "\\fR");
  absl::StrAppend(&text, "\n", Roff(flag.help));
  return absl::StrCat(text, flag.is_repeated ? " (may be given several times)\n" : "\n");
}

// `path` is the words after "unipool", as in "data inspect".
std::string CommandText(const std::string& path, const Command& command) {
  std::string text;
  if (!command.subs.empty()) {
    for (const Command& sub : command.subs) {
      absl::StrAppend(&text, CommandText(absl::StrCat(path, " ", sub.name), sub));
    }
    return text;
  }
  absl::StrAppend(&text, ".SS ", Roff(path));
  for (const std::string& argument : command.spec.arguments) {
    absl::StrAppend(&text, " ", Roff(argument));
  }
  absl::StrAppend(&text, "\n", Roff(command.summary), "\n");
  for (const Flag& flag : command.spec.flags) {
    if (flag.name != "help") absl::StrAppend(&text, FlagText(flag));
  }
  return text;
}

}  // namespace

std::string ManPage(const std::vector<Command>& commands) {
  std::string text = absl::StrCat(
      ".TH UNIPOOL 1 \"\" \"unipool ", kBuildInfo.version, "\" \"User Commands\"\n",
      ".SH NAME\nunipool \\- pretrain language models whose layers share one pool of experts\n",
      ".SH SYNOPSIS\n.B unipool\n\\fICOMMAND\\fR [\\fISUBCOMMAND\\fR] [\\fIARGUMENTS\\fR]\n",
      kDescription, ".SH COMMANDS\nEach command also accepts\n.BR \\-\\-help .\n");
  for (const Command& command : commands) {
    absl::StrAppend(&text, CommandText(command.name, command));
  }
  return absl::StrCat(text, kEnd);
}

}  // namespace unipool
