#!/usr/bin/env bash
# Starts the ranks of a program with Open MPI's mpirun: default settings, signals that let the ranks
# save before they exit, and restarts after a failure. `mpirun.sh --help` lists options and exit
# statuses.
set -eu

readonly bad_input=2 run_again=75 lost_peer=76 interrupted=130

print_help() {
  cat << 'HELP'
usage: mpirun.sh [--restarts N] [--min-ranks N] [-np N] [--host LIST | --hostfile FILE]
         [mpirun options] PROGRAM [ARGUMENT ...]

Starts the ranks of PROGRAM with Open MPI's mpirun. Other options are passed to mpirun.

  -np N             number of ranks (also -n, -c)
  --restarts N      restart the job at most N times after a crash, a hang, or the loss of a rank or
                    a host; a host that was lost during the run is left out (default 0)
  --min-ranks N     do not restart with fewer than N ranks (default 1)
  --host LIST       hosts and their numbers of slots, as in node1:8,node2:8
  --hostfile FILE   the same in a file, one line "node1 slots=8" per host
  --help [TOPIC]    print this text, then the help of mpirun

Signals: SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU make all ranks save a checkpoint and
exit with status 75. A second SIGINT ends them at once, without a checkpoint.

Exit statuses: that of PROGRAM, or
  2                 bad input: an option, a hostfile or PROGRAM is wrong, or a host cannot be
                    reached at the start; no restart
  75                stopped on request; no restart
  76                a rank, a host or a connection was lost
  126, 127          mpirun is not installed or cannot be executed
  128 + N           a rank was ended by signal N
  130               second SIGINT; no restart

Environment variables that are already set override the defaults of this script:
  OMPI_ALLOW_RUN_AS_ROOT=1, OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1         more ranks than cores
  OMPI_MCA_hwloc_base_binding_policy=none     ranks are not bound to cores
  OMPI_MCA_mpi_yield_when_idle=0
  OMPI_MCA_pml=ob1, OMPI_MCA_btl=self,vader,tcp
  OMPI_MCA_oob_tcp_keepalive_time=4, OMPI_MCA_oob_tcp_keepalive_intvl=2,
  OMPI_MCA_oob_tcp_keepalive_probes=4         a host that is cut off ends the job within 15 s
  OMPI_MCA_plm_rsh_agent="ssh -o BatchMode=yes -o ConnectTimeout=5"
                                              command that checks whether a host can be reached
The ranks get UNIPOOL_TERMINAL (columns of the terminal, 0 if the output is none),
UNIPOOL_STARTED (start of the job in seconds since 1970) and UNIPOOL_RESTART (0 at the first start,
then the number of the restart).
More: launch/operations.md.
HELP
}

report() { echo "mpirun.sh: $*" >&2; }

# By default mpirun refuses to run as root, the usual user in containers.
export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
# More ranks than cores are allowed. Ranks are not bound: mpirun would bind all threads of a rank to
# one core. Waits of the program already yield the core (comm/mpi_communicator.cc); if MPI yielded
# too, an exchange that overlaps with compute would be delayed.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-0}"
# Shared memory and TCP, without probing for other networks.
export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}"
export OMPI_MCA_btl="${OMPI_MCA_btl:-self,vader,tcp}"
# A host that is cut off ends the job within 15 s instead of minutes. A cut of 5 s loses at most
# three probes and does not end the job.
export OMPI_MCA_oob_tcp_keepalive_time="${OMPI_MCA_oob_tcp_keepalive_time:-4}"
export OMPI_MCA_oob_tcp_keepalive_intvl="${OMPI_MCA_oob_tcp_keepalive_intvl:-2}"
export OMPI_MCA_oob_tcp_keepalive_probes="${OMPI_MCA_oob_tcp_keepalive_probes:-4}"

# All words before the program are options. Those that a restart changes are kept apart from those
# that are passed on to mpirun.
restarts=0 min_ranks=1 ranks="" hostfile="" options=() hosts=()
agent="${OMPI_MCA_plm_rsh_agent:-ssh -o BatchMode=yes -o ConnectTimeout=5}"
if [[ $# -eq 0 ]]; then
  report "no program is given; mpirun.sh --help shows the usage"
  exit "$bad_input"
fi
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | -help | --help)
      print_help
      ! command -v mpirun > /dev/null || { echo; mpirun --help ${2:+"$2"} || true; }
      exit 0 ;;
    --restarts) restarts="${2:-}"; shift 2 || shift ;;
    --restarts=*) restarts="${1#*=}"; shift ;;
    --min-ranks) min_ranks="${2:-}"; shift 2 || shift ;;
    --min-ranks=*) min_ranks="${1#*=}"; shift ;;
    -np | --np | -n | --n | -c) ranks="${2:-}"; shift 2 || shift ;;
    -H | -host | --host)
      IFS=, read -r -a listed <<< "${2:-,}"
      hosts+=("${listed[@]}"); shift 2 || shift ;;
    --host=* | -host=*)
      IFS=, read -r -a listed <<< "${1#*=},"
      hosts+=("${listed[@]:-}"); shift ;;
    -hostfile | --hostfile | -machinefile | --machinefile | -default-hostfile | --default-hostfile)
      hostfile="${2:-/dev/null}"; shift 2 || shift ;;
    -hostfile=* | --hostfile=* | -machinefile=* | --machinefile=*) hostfile="${1#*=}"; shift ;;
    -mca | --mca | -gmca | --gmca)
      [[ "${2:-}" != plm_rsh_agent ]] || agent="${3:-}"
      [[ "${2:-}" != orte_default_hostfile ]] || hostfile="${3:-/dev/null}"
      options+=("$1" "${2:-}" "${3:-}"); shift 3 || shift $# ;;
    -x | -map-by | --map-by | -rank-by | --rank-by | -bind-to | --bind-to | -wdir | --wdir | \
      -prefix | --prefix | -N | --npernode | -npernode | --timeout | -timeout | \
      --output-filename | -output-filename)
      options+=("$1" "${2:-}"); shift 2 || shift ;;
    -*) options+=("$1"); shift ;;
    *) break ;;
  esac
done
if ! command -v mpirun > /dev/null; then
  report "mpirun is not installed; on Debian: apt-get install openmpi-bin"
  exit 127
fi
# An installed program lies beside this script, which need not be on PATH.
beside="$(dirname "$(realpath "${BASH_SOURCE[0]}")")/unipool"
if [[ "${1:-}" == unipool && -x "$beside" ]]; then
  set -- "$beside" "${@:2}"
fi
if ! [[ "$restarts" =~ ^[0-9]+$ ]]; then
  report "--restarts is '$restarts'; give a whole number of at least 0"
  exit "$bad_input"
fi
for count in "--min-ranks:$min_ranks" "-np:${ranks:-1}"; do
  if ! [[ "${count#*:}" =~ ^0*[1-9][0-9]{0,5}$ ]]; then
    report "${count%%:*} is '${count#*:}'; give a whole number of at least 1 (and below a million)"
    exit "$bad_input"
  fi
done

# refuse_hosts WHAT FOUND REMEDY: reports a list of hosts that cannot be used, with at most 60 bytes
# of it, and exits.
refuse_hosts() {
  local found="${2:0:60}"
  [[ -z "$found" ]] || found=": '${found//[^[:print:]]/?}'"
  report "$1$found; $3"
  exit "$bad_input"
}

# Appends "host:slots" of each line of a file to `hosts_of_file`; the default is one slot. mpirun
# gets a plain copy of a file that is a pipe or that has line ends or a byte order mark of Windows.
read_hostfile() {
  local file="$1" raw text line words name field number=0
  local -A seen=()
  local wanted="give a file with a line 'NAME slots=N' per host"
  [[ -r "$file" && ! -d "$file" ]] || refuse_hosts "--hostfile $file cannot be read" "" "$wanted"
  raw=$(timeout 10 head -c 1048577 -- "$file" | LC_ALL=C tr -d '\0') || true
  [[ ${#raw} -le 1048576 ]] || refuse_hosts "--hostfile $file is larger than 1 MiB" "" "$wanted"
  text="${raw//$'\r'/}"
  text="${text#$'\xef\xbb\xbf'}"
  while IFS= read -r line; do
    number=$((number + 1))
    read -r -a words <<< "${line%%#*}"
    [[ ${#words[@]} -gt 0 ]] || continue
    name="${words[0]}"
    [[ "$name" =~ ^([A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}$ ]] ||
      refuse_hosts "--hostfile $file line $number is not a host" "$line" "write 'NAME slots=N'"
    for field in "${words[@]:1}"; do
      [[ "$field" =~ ^(slots|max[_-]slots|slots[_-]max|cpus?|count)=[1-9][0-9]{0,5}$ ||
        "$field" =~ ^user(name)?=[A-Za-z0-9._-]+$ ]] ||
        refuse_hosts "--hostfile $file line $number has a bad field" "$field" "write 'NAME slots=N'"
      [[ "$field" =~ ^(slots|cpus?|count)=([0-9]+)$ ]] && name="${name%%:*}:${BASH_REMATCH[2]}"
    done
    name="${name#*@}"
    [[ -z "${seen[${name%%:*}]:-}" || "$name${seen[${name%%:*}]}" != *:* ]] ||
      refuse_hosts "--hostfile $file line $number names a host again" "$line" \
        "add its slots to the first line"
    seen[${name%%:*}]="$name"
    hosts_of_file+=("$name")
  done < <(sed -E 's/[[:blank:]]*=[[:blank:]]*/=/g' <<< "$text")
  [[ ${#hosts_of_file[@]} -gt 0 ]] ||
    refuse_hosts "--hostfile $file names no host" "" "add a line 'NAME slots=N' per host"
  [[ ! -f "$file" || "$text" != "$raw" ]] || return 0
  hostfile=$(mktemp)
  # shellcheck disable=SC2064 # the name of now
  trap "rm -f '$hostfile'" EXIT
  printf '%s\n' "$text" > "$hostfile"
}

hosts_of_file=()
if [[ -z "$hostfile" && ${#hosts[@]} -eq 0 ]]; then
  hostfile="${OMPI_MCA_orte_default_hostfile:-}"
fi
if [[ -n "$hostfile" ]]; then
  read_hostfile "$hostfile"
fi
for host in "${hosts[@]}"; do
  [[ "$host" =~ ^([A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:([0-9]{1,6}|\*))?$ ]] ||
    refuse_hosts "--host has an entry that is not a host" "$host" "write NAME:SLOTS,NAME:SLOTS"
done

# Ranks write to pipes, so they cannot detect a terminal and its width.
if [[ -z "${UNIPOOL_TERMINAL:-}" ]]; then
  UNIPOOL_TERMINAL=0
  if [[ -t 1 ]]; then
    exec {terminal}>&1  # inside $( ), 1 is a pipe
    UNIPOOL_TERMINAL=$(stty size <&"$terminal" 2> /dev/null | cut -d' ' -f2) || true
    exec {terminal}>&-
    [[ "$UNIPOOL_TERMINAL" =~ ^[1-9][0-9]*$ ]] || UNIPOOL_TERMINAL=80
  fi
fi
# Restarts keep the time of the first start, because they share one --time-limit.
UNIPOOL_STARTED="${UNIPOOL_STARTED:-$(date +%s)}"
UNIPOOL_RESTART=0
export UNIPOOL_TERMINAL UNIPOOL_STARTED UNIPOOL_RESTART

# word_after MARK TEXT: the first word of TEXT after MARK.
word_after() { local rest="${2#*"$1"}"; rest="${rest#"${rest%%[! ]*}"}"; echo "${rest%% *}"; }

# Reports a signal that ended a rank, from mpirun's sentence about it. The process id there is often
# 0, so it is left out.
report_signal() {
  local pattern='process rank ([0-9]+) with PID [0-9]+ on node ([^ ]+) exited on (signal .*[^ .])'
  if [[ "$1" =~ $pattern ]]; then
    report "rank ${BASH_REMATCH[1]} on host ${BASH_REMATCH[2]} was ended by ${BASH_REMATCH[3]}"
  else
    report "${1#*noticed that }"
  fi
}

# Reports a paragraph of mpirun in one line, or not at all if the ranks or this script report the
# same. Returns false for an unknown paragraph. Sets `refused` if mpirun could not start the
# program, because mpirun's exit status is then the same as after a crash.
summarize_paragraph() {
  case "$1" in
    *"terminated normally, but"* | *"processes exited with non-zero status"*) ;;
    *"MPI_ABORT was invoked"*) ;;
    *"mpirun noticed that process"*) report_signal "$1" ;;
    *"lost communication with a remote daemon"*)
      report "lost the connection to host $(word_after "on node" "${1#*Remote daemon}")" ;;
    *"peer process has unexpectedly disconnected"*)
      report "host $(word_after "Local host:" "$1") lost the connection to a rank on host" \
        "$(word_after "Peer host:" "$1")" ;;
    *"failed to TCP connect to a peer"*)
      report "host $(word_after "Local host:" "$1") cannot connect to a rank at" \
        "$(word_after "connect() to" "$1")" ;;
    *"unable to reliably start one or more daemons"*)
      report "mpirun cannot start its daemon on a host, or lost it; check that ssh reaches every" \
        "host without a password" ;;
    *"unable to find the specified executable"* | *"could not access or execute an executable"*)
      refused=$bad_input
      report "cannot start $(word_after "Executable:" "$1") on host" \
        "$(word_after "Node:" "$1"); check the path and the permissions of the program" ;;
    *"No executable was specified"*)
      refused=$bad_input
      report "no program is given; add it after the options" ;;
    *) return 1 ;;
  esac
}

# Copies the standard output of a job. If its reader has gone, drops the rest: mpirun would end the
# job.
copy_output() {
  trap '' INT QUIT TERM HUP USR1 USR2 XCPU PIPE
  cat 2> /dev/null || cat > /dev/null
}

# Copies the standard error of a job, with each known paragraph of mpirun (several lines between two
# rulers) replaced by one line. Returns $bad_input if mpirun could not start the program.
filter_errors() {
  trap '' INT QUIT TERM HUP USR1 USR2 XCPU PIPE
  local line held=() block="" refused=0
  print_held() {
    [[ ${#held[@]} -eq 0 ]] || printf '%s\n' "${held[@]}" >&2
    held=() block=""
  }
  while IFS= read -r line || [[ -n "$line" ]]; do
    if [[ "$line" =~ ^-{70,}$ ]]; then
      if [[ -z "$block" ]]; then
        held=("$line") block="open"
        continue
      fi
      held+=("$line")
      summarize_paragraph "$block" || print_held
      held=() block=""
    elif [[ -n "$block" ]]; then
      held+=("$line") block="$block $line"
      [[ ${#held[@]} -lt 40 ]] || print_held
    elif ! [[ "$line" =~ ^"mpirun: Forwarding signal"|"/btl/tcp/btl_tcp_"|orte_base_help_aggregate|\
"more process"[es]*" has sent help" ]]; then
      printf '%s\n' "$line" >&2
    fi
  done
  print_held
  return "$refused"
}

# A request to stop reaches the ranks as SIGUSR1: after a SIGTERM, mpirun would kill them within a
# second.
mpirun_pid="" stop_requested=false interrupts=0
send_stop() {
  [[ -z "$mpirun_pid" ]] || kill -USR1 "$mpirun_pid" 2> /dev/null || true
}
# shellcheck disable=SC2317 # called by traps
request_stop() {
  [[ $stop_requested == true ]] || report "$1 received; all ranks save a checkpoint and exit"
  stop_requested=true
  send_stop
}
# shellcheck disable=SC2317 # called by a trap
handle_interrupt() {
  interrupts=$((interrupts + 1))
  if [[ $interrupts -eq 1 ]]; then
    report "interrupted; all ranks save a checkpoint and exit (interrupt again to exit at once" \
      "without saving)"
    stop_requested=true
    send_stop
  elif [[ -n "$mpirun_pid" ]]; then
    kill -TERM "$mpirun_pid" 2> /dev/null || true
    [[ $interrupts -eq 2 ]] || kill -KILL "$mpirun_pid" 2> /dev/null || true
  fi
}
for signal in USR1 USR2 TERM HUP XCPU; do
  # shellcheck disable=SC2064 # the signal of now
  trap "request_stop SIG$signal" "$signal"
done
trap handle_interrupt INT
# The ranks log what they do. mpirun cannot forward SIGQUIT.
trap '[[ -z "$mpirun_pid" ]] || kill -ALRM "$mpirun_pid" 2> /dev/null || true' QUIT

# Runs the job until it ends and sets `status` to its exit status. Because of setsid, signals of the
# terminal reach only this script; because of setpriv, mpirun ends if this script is killed.
# SIGXCPU, which batch systems send to all processes of a job, does not end mpirun.
run_job() {
  local placed=() reader writer sleeper pause
  [[ -z "$ranks" ]] || placed+=(-np "$ranks")
  [[ ${#hosts[@]} -eq 0 ]] || placed+=(--host "$(IFS=,; echo "${hosts[*]}")")
  [[ -z "$hostfile" ]] || placed+=(--hostfile "$hostfile")
  exec {errors}> >(filter_errors)
  reader=$!
  exec {output}> >(copy_output)
  writer=$!
  (
    trap '' XCPU
    exec setsid setpriv --pdeathsig TERM mpirun -x UNIPOOL_TERMINAL -x UNIPOOL_STARTED \
      -x UNIPOOL_RESTART "${placed[@]}" "${options[@]}" "$@" >&"$output" 2>&"$errors" \
      {output}>&- {errors}>&-
  ) &
  mpirun_pid=$!
  [[ $stop_requested == false ]] || send_stop
  status=0
  while kill -0 "$mpirun_pid" 2> /dev/null; do
    # A signal that arrives while ranks start may be lost, and one may arrive just before `wait`.
    # So every wait has a timeout, and the request is repeated.
    [[ $stop_requested == true ]] && pause=0.2 || pause=2
    sleep "$pause" &
    sleeper=$!
    wait -n "$mpirun_pid" "$sleeper" 2> /dev/null || true
    kill "$sleeper" 2> /dev/null || true
    [[ $stop_requested == false || $interrupts -gt 1 ]] || send_stop
  done
  wait "$mpirun_pid" 2> /dev/null || status=$?
  mpirun_pid=""
  exec {output}>&- {errors}>&-
  wait "$writer" || true
  wait "$reader" || [[ $? -ne $bad_input ]] || status=$bad_input
}

# Replaces mpirun's several statuses for a lost rank or host by one, and the status of ranks that
# the signal to stop ended before they could handle it. Sets `reason` to a description of the end.
translate_status() {
  reason="the job ended with status $status"
  if [[ $interrupts -gt 1 ]]; then
    status=$interrupted
  elif [[ $stop_requested == true && $status -eq $((128 + 10)) ]]; then
    status=$run_again
  elif [[ $status -eq 9 || $status -eq 137 || $status -eq 205 ]]; then
    reason="a rank or its host was lost (mpirun's exit status is $status)"
    status=$lost_peer
  fi
}

# After success, bad input, divergence, a request to stop or a missing program, a restart would end
# in the same way.
may_restart() {
  case "$status" in
    0 | "$bad_input" | 3 | "$run_again" | 126 | 127 | "$interrupted") return 1 ;;
    *) [[ $stop_requested == false ]] ;;
  esac
}

# is_this_host NAME: true for a name or address of this host, as mpirun decides it.
is_this_host() {
  local address mine
  mine=" $(hostname -I 2> /dev/null || true) "
  [[ "$1" != localhost && "$1" != "$HOSTNAME" && "$1" != "${HOSTNAME%%.*}" ]] || return 0
  while read -r address _; do
    [[ "$address" != 127.* && "$address" != ::1 && "$mine" != *" $address "* ]] || return 0
  done < <(getent ahosts "$1" 2> /dev/null)
  return 1
}

# is_reachable HOST: runs a command of mpirun's agent there. This host needs none.
is_reachable() {
  local agent_words
  ! is_this_host "$1" || return 0
  read -r -a agent_words <<< "$agent"
  timeout 10 "${agent_words[@]}" "$1" true < /dev/null > /dev/null 2>&1
}

# Sets `unreachable` to " host host ": those of the arguments "host:slots" that cannot be reached.
# All are tried at the same time, each once.
find_unreachable() {
  local host tried=" " checks=()
  unreachable=" "
  for host in "$@"; do
    host="${host%%:*}"
    [[ "$tried" != *" $host "* ]] || continue
    tried+="$host "
    is_reachable "$host" &
    checks+=("$!:$host")
  done
  for host in "${checks[@]}"; do
    wait "${host%%:*}" || unreachable+="${host#*:} "
  done
}

# At the start every host must be reached: a mistyped name must not make a run smaller. Inside of a
# Slurm job, Slurm starts mpirun's daemons, and no agent is needed.
check_hosts() {
  [[ -z "${SLURM_JOB_ID:-}" ]] || return 0
  find_unreachable "${hosts[@]}" "${hosts_of_file[@]}"
  [[ "$unreachable" != " " ]] || return 0
  report "cannot reach${unreachable% }; check the names, and that '$agent HOST true' works" \
    "without a password"
  exit "$bad_input"
}

# Removes hosts that cannot be reached from `hosts`, and their slots from the number of ranks.
drop_unreachable_hosts() {
  local host slots all=0 left=0 kept=()
  if [[ -n "$hostfile" ]]; then
    hosts=("${hosts_of_file[@]}")
    hostfile="" hosts_of_file=()
  fi
  find_unreachable "${hosts[@]}"
  for host in "${hosts[@]}"; do
    slots=1
    [[ ! "$host" =~ :([0-9]+)$ ]] || slots="${BASH_REMATCH[1]}"
    all=$((all + slots))
    if [[ "$unreachable" != *" ${host%%:*} "* ]]; then
      kept+=("$host")
      left=$((left + slots))
    else
      report "host ${host%%:*} cannot be reached; the restart does not use it"
    fi
  done
  [[ $left -lt $all ]] || return 0
  hosts=("${kept[@]}")
  if [[ -n "$ranks" && $ranks -gt $all ]]; then
    ranks=$((ranks * left / all))
    [[ $ranks -gt 0 || $left -eq 0 ]] || ranks=1
  elif [[ -n "$ranks" && $ranks -gt $left ]]; then
    ranks=$left
  fi
  if [[ $left -eq 0 || ${ranks:-$left} -lt $min_ranks ]]; then
    report "$reason, and the hosts that can be reached have ${ranks:-$left} ranks of at least" \
      "$min_ranks (--min-ranks); exiting with status $status"
    exit "$status"
  fi
}

# Decides what follows the end of a job: returns true if it is to be started again.
prepare_restart() {
  if ! may_restart; then return 1; fi
  if [[ $UNIPOOL_RESTART -ge $restarts ]]; then
    if [[ $restarts -gt 0 ]]; then
      report "$reason; exiting with status $status ($restarts of $restarts restarts used)"
    elif [[ $status -eq $lost_peer && "$reason" == *lost* ]]; then
      report "$reason; exiting with status $status (--restarts N restarts the job)"
    fi
    return 1
  fi
  UNIPOOL_RESTART=$((UNIPOOL_RESTART + 1))
  drop_unreachable_hosts
  report "$reason; restarting in 1 s${ranks:+ with $ranks ranks}" \
    "($UNIPOOL_RESTART of $restarts restarts used)"
  sleep 1 || true
}

check_hosts
while true; do
  run_job "$@"
  translate_status
  prepare_restart || break
done
exit "$status"
