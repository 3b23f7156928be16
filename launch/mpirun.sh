#!/usr/bin/env bash
# Starts the ranks of a program: launch/mpirun.sh -np N [mpirun options] program args...
# A setting that is already in the environment stays as it is.
set -eu

if ! command -v mpirun > /dev/null; then
  echo "mpirun.sh: mpirun is not installed; on Debian: apt-get install openmpi-bin" >&2
  exit 127
fi
if [[ $# -eq 0 ]]; then
  echo "usage: mpirun.sh -np N [mpirun options] program args..." >&2
  exit 2
fi

# Else mpirun refuses to run as root, as it does in most containers.
export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
# More ranks than cores is legal. Ranks stay unbound, else all threads of a rank share one core, and
# waiting ranks give their core away, else they cost milliseconds a step.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
# Shared memory and TCP, without probing for other networks.
export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}"
export OMPI_MCA_btl="${OMPI_MCA_btl:-self,vader,tcp}"
# A host that is cut off ends the job within 12 s instead of minutes.
export OMPI_MCA_oob_tcp_keepalive_time="${OMPI_MCA_oob_tcp_keepalive_time:-5}"
export OMPI_MCA_oob_tcp_keepalive_intvl="${OMPI_MCA_oob_tcp_keepalive_intvl:-2}"
export OMPI_MCA_oob_tcp_keepalive_probes="${OMPI_MCA_oob_tcp_keepalive_probes:-3}"

# Ranks cannot tell whether people watch; they write to pipes.
UNIPOOL_TERMINAL="${UNIPOOL_TERMINAL:-$([[ -t 1 ]] && echo 1 || echo 0)}"
export UNIPOOL_TERMINAL

exec mpirun -x UNIPOOL_TERMINAL "$@"
