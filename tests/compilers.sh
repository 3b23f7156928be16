#!/usr/bin/env bash
# Builds everything with one compiler in a folder of its own, without CUDA and precompiled headers,
# and runs the fast tests.
# usage: tests/compilers.sh clang++|g++ [ctest options]
# Exits with 77 if the compiler is not installed (tools/setup.sh --dev installs both).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compiler=${1:-}
case $compiler in
  clang++) folder=build-clang ;;
  g++) folder=build-gcc ;;
  *) echo "compilers.sh: \"$compiler\": unknown compiler; give clang++ or g++" >&2; exit 2 ;;
esac
shift
if ! command -v "$compiler" > /dev/null; then
  echo "compilers.sh: skipped: $compiler is not installed (tools/setup.sh --dev installs it)"
  exit 77
fi

mkdir -p "$folder"
if ! { cmake -S . -B "$folder" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DUNIPOOL_WITH_CUDA=OFF \
         -DUNIPOOL_PRECOMPILE=OFF &&
       cmake --build "$folder" --parallel "$(nproc)"; } > "$folder/compilers.log" 2>&1; then
  tail -n 60 "$folder/compilers.log"
  echo "compilers.sh: the build with $compiler failed; its log is $folder/compilers.log" >&2
  exit 1
fi
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
  ctest --test-dir "$folder" -L '^fast$' -j "$(nproc)" --output-on-failure --no-tests=error "$@"
