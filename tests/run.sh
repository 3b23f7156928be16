#!/usr/bin/env bash
# All tests that need no GPU, from a fresh machine on: installs what is missing, builds, runs.
# Those of the kernels run in a build of their own (build-emulated) that emulates the GPU. The last
# line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# A failure before the first test counts as one.
failed_before_tests() {
  echo "tests/run.sh: $1 failed" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

# configure FOLDER [OPTION ...]
configure() {
  local folder=$1 generator=()
  [ -f "$folder/CMakeCache.txt" ] || generator=(-G Ninja)
  cmake -S . -B "$folder" "${generator[@]}" "${@:2}" || failed_before_tests "configuring $folder"
}

# run_label FOLDER LABEL JOBS LABELS-LEFT-OUT: rank tests have processes of their own and run one by
# one. Tests that run beside each other have a thread each, else those that spin for each other on
# too few cores may come to their time limit.
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
