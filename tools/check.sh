#!/usr/bin/env bash
# What is green before each commit: format, layers, build, fast tests, and the kernels' tests under
# the emulator. A line a part; stops at the first failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export UNIPOOL_CUDA_ARCHITECTURES="${UNIPOOL_CUDA_ARCHITECTURES:-90a-real}"
format_version=14

failed() {
  echo "check: $1 FAILED"
  exit 1
}

# The clang-format of the pinned major version, or nothing: others format differently.
find_formatter() {
  local candidate
  for candidate in "clang-format-$format_version" clang-format; do
    if "$candidate" --version 2> /dev/null | grep -q "version $format_version\."; then
      echo "$candidate"
      return
    fi
  done
}

check_format() {
  local formatter
  formatter=$(find_formatter)
  if [ -z "$formatter" ]; then
    echo "check: format skipped: no clang-format $format_version here (tools/setup.sh --dev)"
    return
  fi
  if ! git rev-parse --git-dir > /dev/null 2>&1; then
    echo "check: format skipped: not a git checkout"
    return
  fi
  git ls-files -z '*.h' '*.cc' '*.cu' | xargs -0 -r "$formatter" --dry-run -Werror || failed format
  echo "check: format ok"
}

# check_build FOLDER TARGET [OPTION ...]
check_build() {
  local folder=$1 target=$2 generator=()
  [ -f "$folder/CMakeCache.txt" ] || generator=(-G Ninja)
  mkdir -p "$folder"
  { cmake -S . -B "$folder" "${generator[@]}" "${@:3}" &&
      cmake --build "$folder" --parallel "$(nproc)" --target "$target"
  } > "$folder/check.log" 2>&1 || {
      tail -n 60 "$folder/check.log"
      failed "build of $folder"
    }
}

# check_tests FOLDER LABEL
check_tests() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    ctest --test-dir "$1" -L "^$2\$" --output-on-failure -j2 --no-tests=error \
    > "$1/check.log" 2>&1 || { cat "$1/check.log"; failed "tests of $1"; }
}

check_format
python3 tools/check_layers.py || failed layers
echo "check: layers ok"
check_build build all
check_build build-emulated cuda_tests -DUNIPOOL_WITH_CUDA=EMULATE
echo "check: build ok"
check_tests build fast
check_tests build-emulated cuda
echo "check: tests ok"
