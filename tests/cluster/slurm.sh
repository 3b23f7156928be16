#!/usr/bin/env bash
# A private Slurm whose nodes are the hosts of hosts.sh: a controller on the network of h1, a daemon
# on each host, and munge with a key of its own. It uses no systemd, no cgroup, nothing in /etc or
# /run.
# usage: slurm.sh up [N]        start Slurm on h1..hN, which hosts.sh has created (default 3)
#        slurm.sh run CMD...    run sbatch, squeue, scontrol ... with this Slurm
#        slurm.sh down          stop it
# Needs root and Debian's slurm-wlm and munge.
set -u
folder=${UNIPOOL_SLURM:-${TMPDIR:-/tmp}/unipool-slurm}
here=$(dirname "$(readlink -f "$0")")
export SLURM_CONF=$folder/slurm.conf

controller() { "$here/hosts.sh" head env SLURM_CONF="$SLURM_CONF" "$@"; }

start_munge() {
  mkdir -p "$folder/munge"
  chmod 700 "$folder/munge"
  dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
  chmod 400 "$folder/munge/key"
  munged --key-file="$folder/munge/key" --socket="$folder/run/munge.sock" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
    --seed-file="$folder/munge/seed" --force 2> "$folder/log/munged.err"
}

# With cred_expire=5 a requeued job starts after 5 s; the default is two minutes.
write_config() {
  local nodes=$1 i
  cat > "$SLURM_CONF" << CONFIG
ClusterName=unipool
SlurmctldHost=h1(10.77.0.1)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/run/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=pmix
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_min_interval=500000
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=300
SlurmdTimeout=30
InactiveLimit=0
UnkillableStepTimeout=60
CONFIG
  for i in $(seq "$nodes"); do
    echo "NodeName=h$i NodeHostname=h$i NodeAddr=10.77.0.$i Port=16900 CPUs=2 RealMemory=4000"
    mkdir -p "$folder/spool/h$i" "$folder/tmp/h$i"
  done >> "$SLURM_CONF"
  echo "PartitionName=main Nodes=h[1-$nodes] Default=YES MaxTime=60 OverTimeLimit=0 State=UP" \
    >> "$SLURM_CONF"
}

bring_up() {
  local nodes=$1 i
  mkdir -p "$folder"/{state,spool,log,run,tmp}
  chmod 755 "$folder"
  start_munge || return 1
  write_config "$nodes"
  controller slurmctld -f "$SLURM_CONF" || return 1
  for i in $(seq "$nodes"); do "$here/hosts.sh" exec "h$i" slurmd -f "$SLURM_CONF" || return 1; done
  for _ in $(seq 100); do
    [ "$(controller sinfo -h -t idle -o %D 2> /dev/null)" = "$nodes" ] && return 0
    sleep 0.2
  done
  echo "slurm.sh: not all of the $nodes nodes became idle within 20 s; see $folder/log" >&2
  return 1
}

take_down() {
  local file
  for file in "$folder"/run/slurmd.*.pid "$folder/run/slurmctld.pid" "$folder/munge/pid"; do
    [ -s "$file" ] && kill "$(cat "$file")" 2> /dev/null
  done
  sleep 1
  rm -rf "$folder"
}

case ${1:-} in
  up) bring_up "${2:-3}" ;;
  run) shift && controller "$@" ;;
  down) take_down ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
