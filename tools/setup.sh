#!/usr/bin/env bash
# Installs what the build, the tests and the scripts need and this machine lacks; nothing, and at
# once, where all is there. Debian or Ubuntu, as root or with sudo.
# usage: setup.sh [--dev | --cluster]
#   --dev adds the formatter and linters of tools/check.sh and the compiler of tests/compilers.sh;
#   --cluster adds the packages with which tests/cluster makes hosts and a Slurm
set -euo pipefail

packages=(
  g++ cmake ninja-build
  libopenmpi-dev openmpi-bin
  libprotobuf-dev protobuf-compiler libabsl-dev libgoogle-glog-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  libopenblas-dev libxxhash-dev nlohmann-json3-dev
  libpcre2-dev zlib1g-dev libzstd-dev
  python3 ca-certificates
)

case "${1:-}" in
  "") ;;
  --dev) packages+=(clang-format-14 clang-tidy-14 clang-14 libomp-14-dev shellcheck pyflakes3) ;;
  --cluster) packages+=(slurm-wlm munge iproute2 procps util-linux) ;;
  *) echo "setup.sh: $1: unknown flag, expected --dev, --cluster or nothing" >&2; exit 2 ;;
esac

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "setup.sh: this system has no apt; install what these Debian packages hold, then build:" >&2
  echo "  ${packages[*]}" >&2
  exit 1
fi

# dpkg-query fails when a package is unknown to it; what it prints is still right.
installed=$(dpkg-query -W -f='${binary:Package} ${db:Status-Status}\n' "${packages[@]}" \
  2> /dev/null | sed -n 's/^\([^ :]*\)[^ ]* installed$/\1/p' || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "$package" <<< "$installed" || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
  echo "setup.sh: all ${#packages[@]} packages are there"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "setup.sh: missing packages, and neither root nor sudo to install them; as root, run" >&2
    echo "  apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup.sh: installing ${missing[*]}"
# Another apt may hold the lock for a while; without the timeout this one would give up at once.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update &&
       "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "setup.sh: apt-get failed (above); expected to install ${missing[*]}" >&2
  exit 1
fi
echo "setup.sh: done"
