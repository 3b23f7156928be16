#!/usr/bin/env bash
# All tests that need no GPU, from a fresh machine on: installs what is missing, builds, runs. The
# last line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A failure before the first test counts as one.
failed_before_tests() {
  echo "tests/run.sh: $1 failed" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

# run_label LABEL JOBS: rank tests have processes of their own and run one by one.
run_label() {
  ctest --test-dir build -L "^$1\$" -LE '^(long|cuda)$' -j "$2" --output-on-failure \
    --test-output-size-passed 1000000 --test-output-size-failed 1000000 \
    --output-junit "$PWD/build/junit_$1.xml"
}

bash tools/setup.sh || failed_before_tests tools/setup.sh
generator=()
[ -f build/CMakeCache.txt ] || generator=(-G Ninja)
cmake -S . -B build "${generator[@]}" || failed_before_tests configuring
cmake --build build --parallel "$(nproc)" || failed_before_tests building

rm -f build/junit_*.xml
status=0
run_label fast 2 || status=1
run_label ranks 1 || status=1
python3 tools/test_summary.py build/junit_fast.xml build/junit_ranks.xml && [ "$status" -eq 0 ]
