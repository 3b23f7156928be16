#!/usr/bin/env bash
# Installs missing packages, builds, and runs all tests that need no GPU. The tests of kernels run
# in a separate build (build-emulated) that emulates the GPU. The last line of the output is
# `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Reports a step before the tests that failed, counts it as one failure, and exits.
failed_before_tests() {
  echo "tests/run.sh: $1 failed" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

# configure FOLDER [OPTION ...]: runs cmake, with Ninja if the folder is new.
configure() {
  local folder=$1 generator=()
  [ -f "$folder/CMakeCache.txt" ] || generator=(-G Ninja)
  cmake -S . -B "$folder" "${generator[@]}" "${@:2}" || failed_before_tests "configuring $folder"
}

# run_label FOLDER LABEL JOBS EXCLUDED-LABELS: runs the tests with a label. Tests that start several
# processes run one by one (JOBS is 1). Tests that run in parallel use one thread each: with more
# threads than cores, threads that wait in a loop could make a test exceed its time limit.
run_label() {
  local environment=()
  [ "$3" -eq 1 ] || environment=("OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}")
  env "${environment[@]}" \
    ctest --test-dir "$1" -L "^$2\$" -LE "^($4)\$" -j "$3" --output-on-failure --no-tests=error \
    --test-output-size-passed 1000000 --test-output-size-failed 1000000 \
    --output-junit "$PWD/build/junit_$2.xml"
}

bash tools/setup.sh || failed_before_tests tools/setup.sh
configure build
cmake --build build --parallel "$(nproc)" || failed_before_tests building
configure build-emulated -DUNIPOOL_WITH_CUDA=EMULATE
cmake --build build-emulated --parallel "$(nproc)" --target cuda_tests ||
  failed_before_tests "building build-emulated"

rm -f build/junit_*.xml
status=0
run_label build fast 2 'long|cuda' || status=1
run_label build ranks 1 'long|cuda' || status=1
run_label build cluster 1 long || status=1
run_label build-emulated cuda 2 long || status=1
python3 tools/test_summary.py build/junit_{fast,ranks,cluster,cuda}.xml && [ "$status" -eq 0 ]
