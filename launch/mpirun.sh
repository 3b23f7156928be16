#!/usr/bin/env bash
# Starts the ranks of a program:
#   launch/mpirun.sh [--restarts N] -np N [--host LIST | --hostfile FILE] [mpirun options]
#     program args...
# SIGTERM, SIGINT and SIGHUP ask the ranks to save and leave (they get SIGUSR1; mpirun itself would
# leave them a second); a second SIGINT ends them at once. --restarts N starts again, at most N
# times, after a rank or a host is lost, on the hosts that are left. Statuses: launch/README.md.
# A setting that is already in the environment stays as it is.
set -eu

readonly bad_input=2 run_again=75 lost_peer=76 interrupted=130

say() { echo "mpirun.sh: $*" >&2; }

if ! command -v mpirun > /dev/null; then
  say "mpirun is not installed; on Debian: apt-get install openmpi-bin"
  exit 127
fi
if [[ $# -eq 0 ]]; then
  echo "usage: mpirun.sh [--restarts N] -np N [mpirun options] program args..." >&2
  exit 2
fi

# Else mpirun refuses to run as root, as it does in most containers.
export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
# More ranks than cores is legal. Ranks stay unbound, else all threads of a rank share one core.
# Waits give their core away by themselves (comm/mpi_communicator.cc); where MPI yields too, an
# exchange beside compute waits for its turn.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-0}"
# Shared memory and TCP, without probing for other networks.
export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}"
export OMPI_MCA_btl="${OMPI_MCA_btl:-self,vader,tcp}"
# A host that is cut off ends the job within 15 s instead of minutes; a cut of 5 s, in which at most
# three probes are lost, does not.
export OMPI_MCA_oob_tcp_keepalive_time="${OMPI_MCA_oob_tcp_keepalive_time:-4}"
export OMPI_MCA_oob_tcp_keepalive_intvl="${OMPI_MCA_oob_tcp_keepalive_intvl:-2}"
export OMPI_MCA_oob_tcp_keepalive_probes="${OMPI_MCA_oob_tcp_keepalive_probes:-4}"

# Ranks cannot tell whether people watch; they write to pipes.
UNIPOOL_TERMINAL="${UNIPOOL_TERMINAL:-$([[ -t 1 ]] && echo 1 || echo 0)}"
# Restarts share one --time-limit.
UNIPOOL_STARTED="${UNIPOOL_STARTED:-$(date +%s)}"
UNIPOOL_RESTART=0
export UNIPOOL_TERMINAL UNIPOOL_STARTED UNIPOOL_RESTART

# Up to the program, options are mpirun's but for ours; those that a restart changes are kept apart.
restarts=0 ranks="" hostfile="" options=() hosts=()
agent="${OMPI_MCA_plm_rsh_agent:-ssh -o BatchMode=yes -o ConnectTimeout=5}"
while [[ $# -gt 0 ]]; do
  case "$1" in
    --restarts) restarts="${2:-}"; shift 2 || shift ;;
    --restarts=*) restarts="${1#*=}"; shift ;;
    -np | --np | -n | --n | -c) ranks="${2:-}"; shift 2 || shift ;;
    -H | -host | --host)
      IFS=, read -r -a listed <<< "${2:-}"
      hosts+=("${listed[@]}"); shift 2 || shift ;;
    -hostfile | --hostfile | -machinefile | --machinefile)
      hostfile="${2:-}"; shift 2 || shift ;;
    -mca | --mca | -gmca | --gmca)
      [[ "${2:-}" != plm_rsh_agent ]] || agent="$3"
      options+=("$1" "${2:-}" "${3:-}"); shift 3 || shift $# ;;
    -x | -map-by | --map-by | -rank-by | --rank-by | -bind-to | --bind-to | -wdir | --wdir | \
      -prefix | --prefix | -N | --npernode | -npernode | --timeout | -timeout | \
      --output-filename | -output-filename)
      options+=("$1" "${2:-}"); shift 2 || shift ;;
    -*) options+=("$1"); shift ;;
    *) break ;;
  esac
done
# An installed program lies beside this script, which need not be on PATH.
beside="$(dirname "$(realpath "${BASH_SOURCE[0]}")")/unipool"
if [[ "${1:-}" == unipool && -x "$beside" ]]; then
  set -- "$beside" "${@:2}"
fi
if ! [[ "$restarts" =~ ^[0-9]+$ ]]; then
  say "--restarts $restarts: expected a number of at least 0"
  exit 2
fi
if [[ -n "$ranks" ]] && ! [[ "$ranks" =~ ^0*[1-9][0-9]*$ ]]; then
  say "-np $ranks: expected a number of at least 1"
  exit 2
fi
if [[ -n "$hostfile" && (! -r "$hostfile" || -d "$hostfile") ]]; then
  say "--hostfile $hostfile: cannot be read"
  exit 2
fi

# The first word after what a paragraph is cut at.
word_after() { local rest="${2#*"$1"}"; rest="${rest#"${rest%%[! ]*}"}"; echo "${rest%% *}"; }

# What mpirun says between two rulers, in a line: false where it is nothing that we know. A program
# that cannot be started sets `refused`: mpirun's own statuses for it are those of crashes.
paragraph_in_a_line() {
  case "$1" in
    *"terminated normally, but"* | *"processes exited with non-zero status"*) ;;
    *"MPI_ABORT was invoked"*) ;;
    *"mpirun noticed that process"*) say "${1#*noticed that }" ;;
    *"lost communication with a remote daemon"*)
      say "lost the connection to host $(word_after "on node" "${1#*Remote daemon}")" ;;
    *"peer process has unexpectedly disconnected"*)
      say "$(word_after "Local host:" "$1") lost a rank on $(word_after "Peer host:" "$1")" ;;
    *"failed to TCP connect to a peer"*)
      say "$(word_after "Local host:" "$1") cannot connect to $(word_after "connect() to" "$1")" ;;
    *"unable to reliably start one or more daemons"*)
      say "a host cannot be started on, or is lost" ;;
    *"unable to find the specified executable"* | *"could not access or execute an executable"*)
      refused=$bad_input
      say "$(word_after "Executable:" "$1"): no program that can be started on" \
        "$(word_after "Node:" "$1")" ;;
    *"No executable was specified"*)
      refused=$bad_input
      say "no program is given: expected one after the options" ;;
    *) return 1 ;;
  esac
}

# The end of a job as mpirun tells it, several lines between rulers, becomes a line each.
# Its status is $bad_input where mpirun refused to start the program.
errors_in_lines() {
  trap '' INT TERM HUP USR1 USR2
  local line held=() block="" refused=0
  flush() { [[ ${#held[@]} -eq 0 ]] || printf '%s\n' "${held[@]}" >&2; held=() block=""; }
  while IFS= read -r line || [[ -n "$line" ]]; do
    if [[ "$line" =~ ^-{70,}$ ]]; then
      if [[ -z "$block" ]]; then
        held=("$line") block="open"
        continue
      fi
      held+=("$line")
      paragraph_in_a_line "$block" || flush
      held=() block=""
    elif [[ -n "$block" ]]; then
      held+=("$line") block="$block $line"
      [[ ${#held[@]} -lt 40 ]] || flush
    elif ! [[ "$line" =~ ^"mpirun: Forwarding signal"|"/btl/tcp/btl_tcp_"|orte_base_help_aggregate|\
"more process"[es]*" has sent help" ]]; then
      printf '%s\n' "$line" >&2
    fi
  done
  flush
  return "$refused"
}

mpirun_pid="" asked="" interrupts=0
ask_to_stop() {
  asked="$1"
  [[ -z "$mpirun_pid" ]] || kill -USR1 "$mpirun_pid" 2> /dev/null || true
}
on_interrupt() {
  interrupts=$((interrupts + 1))
  if [[ $interrupts -eq 1 ]]; then
    say "interrupted: the run saves and leaves; a second interrupt ends it at once"
    ask_to_stop SIGINT
  elif [[ -n "$mpirun_pid" ]]; then
    kill -TERM "$mpirun_pid" 2> /dev/null || true
    [[ $interrupts -eq 2 ]] || kill -KILL "$mpirun_pid" 2> /dev/null || true
  fi
}
trap 'ask_to_stop SIGUSR1' USR1
trap 'ask_to_stop SIGTERM' TERM
trap 'ask_to_stop SIGHUP' HUP
trap on_interrupt INT
trap '[[ -z "$mpirun_pid" ]] || kill -USR2 "$mpirun_pid" 2> /dev/null || true' USR2

# Runs the job to its end; its exit status is left in `status`. The terminal's signals come to us
# alone (setsid), and when we are killed, so is mpirun.
run_job() {
  local placed=() reader sleeper pause
  [[ -z "$ranks" ]] || placed+=(-np "$ranks")
  [[ ${#hosts[@]} -eq 0 ]] || placed+=(--host "$(IFS=,; echo "${hosts[*]}")")
  [[ -z "$hostfile" ]] || placed+=(--hostfile "$hostfile")
  exec {errors}> >(errors_in_lines)
  reader=$!
  setsid setpriv --pdeathsig TERM mpirun -x UNIPOOL_TERMINAL -x UNIPOOL_STARTED -x UNIPOOL_RESTART \
    "${placed[@]}" "${options[@]}" "$@" 2>&"$errors" {errors}>&- &
  mpirun_pid=$!
  [[ -z "$asked" ]] || ask_to_stop "$asked"
  status=0
  while kill -0 "$mpirun_pid" 2> /dev/null; do
    # Asked while ranks were being started, they may not have heard it, and a request may come right
    # before the wait: so none lasts.
    [[ -z "$asked" ]] && pause=2 || pause=0.2
    sleep "$pause" &
    sleeper=$!
    wait -n "$mpirun_pid" "$sleeper" || true
    kill "$sleeper" 2> /dev/null || true
    [[ -z "$asked" || $interrupts -gt 1 ]] || kill -USR1 "$mpirun_pid" 2> /dev/null || true
  done
  wait "$mpirun_pid" || status=$?
  mpirun_pid=""
  exec {errors}>&-
  wait "$reader" || [[ $? -ne $bad_input ]] || status=$bad_input
}

# One status for whatever mpirun says of a rank or a host that is gone, and of ranks that a request
# to leave ended before they could listen to it.
translate_status() {
  if [[ $interrupts -gt 1 ]]; then
    status=$interrupted
  elif [[ -n "$asked" && $status -eq $((128 + 10)) ]]; then
    status=$run_again
  elif [[ $status -eq 9 || $status -eq 137 || $status -eq 205 ]]; then
    say "a rank or its host is lost (mpirun's status $status)"
    status=$lost_peer
  fi
}

# Done, bad input, diverged, asked to leave, not to be found: the same would come again.
worth_a_restart() {
  case "$status" in
    0 | "$bad_input" | 3 | "$run_again" | 126 | 127 | "$interrupted") return 1 ;;
    *) [[ -z "$asked" ]] ;;
  esac
}

# A host that is up takes or refuses a connection at once, and runs what mpirun's agent brings.
is_reachable() {
  local said
  [[ "$1" != localhost && "$1" != "$HOSTNAME" && "$1" != "${HOSTNAME%%.*}" ]] || return 0
  said=$(timeout 4 bash -c "exec 3<> /dev/tcp/$1/22" 2>&1) || [[ "$said" == *refused* ]] || return 1
  # shellcheck disable=SC2086  # the agent is a command with options
  timeout 10 $agent "$1" true < /dev/null > /dev/null 2>&1
}

# "host:slots" of each line; one slot where it is not said.
read_hostfile() {
  local name rest
  while read -r name rest; do
    [[ -n "$name" && "$name" != \#* ]] || continue
    [[ "$rest" =~ slots=([0-9]+) ]] && name="$name:${BASH_REMATCH[1]}"
    hosts+=("$name")
  done < "$1"
}

# Leaves hosts out that cannot be reached, and as many ranks as had their slots there.
drop_lost_hosts() {
  local host slots all=0 left=0 kept=()
  if [[ -n "$hostfile" ]]; then
    hosts=()
    read_hostfile "$hostfile"
    hostfile=""
  fi
  for host in "${hosts[@]}"; do
    slots=1
    [[ ! "$host" =~ :([0-9]+)$ ]] || slots="${BASH_REMATCH[1]}"
    all=$((all + slots))
    if is_reachable "${host%%:*}"; then
      kept+=("$host")
      left=$((left + slots))
    else
      say "${host%%:*} cannot be reached: going on without it"
    fi
  done
  [[ $left -lt $all ]] || return 0
  if [[ $left -eq 0 ]]; then
    say "no host is left"
    exit "$status"
  fi
  hosts=("${kept[@]}")
  [[ -n "$ranks" ]] || return 0
  if [[ $ranks -gt $all ]]; then
    ranks=$((ranks * left / all))
  elif [[ $ranks -gt $left ]]; then
    ranks=$left
  fi
  [[ $ranks -gt 0 ]] || ranks=1
}

while true; do
  run_job "$@"
  translate_status
  if [[ $UNIPOOL_RESTART -ge $restarts ]] || ! worth_a_restart; then break; fi
  UNIPOOL_RESTART=$((UNIPOOL_RESTART + 1))
  drop_lost_hosts
  say "status $status: restart $UNIPOOL_RESTART of $restarts${ranks:+, $ranks ranks}"
  sleep 1 || true
done
exit "$status"
