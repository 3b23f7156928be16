#!/usr/bin/env bash
# Fuzzes the targets with AddressSanitizer and UBSan, starting from the checked-in corpus. Stops at
# the first failure; the failing input is written to build-fuzz/.
# usage: tests/fuzz/run.sh [SECONDS a target, default 60] [target ...]
# Needs clang with libFuzzer and libomp-dev. With `--merge` instead of SECONDS, inputs found by
# earlier runs that reach new code are added to the corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
build="build-fuzz"

if ! command -v clang++ > /dev/null; then
  echo "fuzz: skipped: clang++ not found; on Debian run: apt-get install clang libomp-dev" >&2
  exit 77
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for folder in tests/fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
fi
cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DUNIPOOL_FUZZ=ON \
  -DUNIPOOL_WITH_CUDA=OFF -DUNIPOOL_SANITIZE=fuzzer-no-link,address,undefined > /dev/null
cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]/%/_fuzz}" \
  > "$build/build.log" || { tail -n 40 "$build/build.log"; exit 1; }

for target in "${targets[@]}"; do
  corpus=tests/fuzz/corpus/$target
  found=$build/found/$target
  mkdir -p "$found"
  if [ "$seconds" = --merge ]; then
    "$build/tests/fuzz/${target}_fuzz" -merge=1 -max_len=65536 "$corpus" "$found" 2>&1 | tail -n 1
    continue
  fi
  log=$build/$target.log
  "$build/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -timeout=20 -max_len=65536 \
    -artifact_prefix="$build/$target-" -print_final_stats=1 "$found" "$corpus" > "$log" 2>&1 ||
    { tail -n 40 "$log"; echo "fuzz: $target failed; the input is in $build"; exit 1; }
  inputs=$(awk '/stat::number_of_executed_units/ {print $2}' "$log")
  echo "fuzz: $target: $inputs inputs in $seconds s, no failure"
done
