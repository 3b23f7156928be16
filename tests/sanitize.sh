#!/usr/bin/env bash
# Runs fast tests under a sanitizer, in a separate build folder.
# usage: tests/sanitize.sh address [ctest options]   AddressSanitizer and UBSan: all fast tests
#        tests/sanitize.sh thread  [ctest options]   ThreadSanitizer: tests whose ranks are threads
# allocation_test, which counts calls of malloc, is left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kind=${1:-}
[ $# -gt 0 ] && shift

case $kind in
  address) sanitizers=address,undefined; tests=() ;;
  # ThreadSanitizer reports false races in the waits of OpenMP, so OpenMP runs on one thread.
  thread)
    sanitizers=thread
    names='collective|token_exchange|gradient_reducer|load_statistics|process_groups|deadline'
    tests=(-R "^($names|watchdog|stream|batch_loader|trainer|checkpoint)")
    ;;
  *) sed -n '2,5p' "$0" >&2; exit 2 ;;
esac
cmake -S . -B "build-$kind" -G Ninja -DUNIPOOL_SANITIZE="$sanitizers" -DUNIPOOL_WITH_CUDA=OFF \
  -DCMAKE_CXX_FLAGS_RELEASE='-O1 -g1' > /dev/null
cmake --build "build-$kind" --parallel "$(nproc)" > "build-$kind/build.log" ||
  { tail -n 40 "build-$kind/build.log"; exit 1; }
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=ignore_noninstrumented_modules=1
# The suppressions cover libraries that MPI loads and never frees.
export LSAN_OPTIONS=suppressions=$PWD/tests/leaks.txt:print_suppressions=0
ctest --test-dir "build-$kind" -L '^fast$' "${tests[@]}" --output-on-failure --no-tests=error \
  -j "$(nproc)" "$@"
