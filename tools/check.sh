#!/usr/bin/env bash
# Everything that must be green before a commit: format, lint, layers, build, fast tests, and the
# tests of the kernels under the emulator. Prints one line for each part and stops at the first
# failure. A part whose tool is missing is skipped with a line that says how to install it.
# usage: tools/check.sh [--tidy | --lint]
#   --tidy  also runs clang-tidy on all C++ files (minutes); without it, on those that differ from
#           HEAD
#   --lint  stops before the build
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export UNIPOOL_CUDA_ARCHITECTURES="${UNIPOOL_CUDA_ARCHITECTURES:-90a-real}"
clang_version=14

all_tidy=false
lint_only=false
case "${1:-}" in
  "") ;;
  --tidy) all_tidy=true ;;
  --lint) lint_only=true ;;
  *) echo "check.sh: $1: unknown flag; give --tidy, --lint or nothing" >&2; exit 2 ;;
esac

failed() {
  echo "check: $1 FAILED"
  exit 1
}

skipped() { echo "check: $1 skipped: $2 is not installed (tools/setup.sh --dev installs it)"; }

# find_tool NAME: the tool of the pinned clang version, or nothing; other versions format and warn
# differently.
find_tool() {
  local candidate
  for candidate in "$1-$clang_version" "$1"; do
    if "$candidate" --version 2> /dev/null | grep -q "version $clang_version\."; then
      echo "$candidate"
      return
    fi
  done
}

# Tracked and new files of these patterns.
files() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

check_format() {
  local formatter
  formatter=$(find_tool clang-format)
  if [ -z "$formatter" ]; then
    skipped format "clang-format-$clang_version"
    return
  fi
  files '*.h' '*.cc' '*.cu' | xargs -0 -r "$formatter" --dry-run -Werror || failed format
  echo "check: format ok"
}

check_shell() {
  if ! command -v shellcheck > /dev/null; then
    skipped shell shellcheck
    return
  fi
  files '*.sh' '*.sbatch' .ci/run | xargs -0 -r shellcheck || failed shell
  echo "check: shell ok"
}

check_python() {
  if ! command -v pyflakes3 > /dev/null; then
    skipped python pyflakes3
    return
  fi
  files '*.py' | xargs -0 -r pyflakes3 || failed python
  echo "check: python ok"
}

# clang-tidy reads the compile commands of a folder of its own: precompiled headers of gcc are
# nothing that it can read. Tests are left out, because most findings there are in GoogleTest's
# macros; so are kernels.
check_tidy() {
  local tidy sources=()
  tidy=$(find_tool clang-tidy)
  if [ -z "$tidy" ]; then
    skipped tidy "clang-tidy-$clang_version"
    return
  fi
  if [ "$all_tidy" = true ]; then
    mapfile -d '' sources < <(files '*.cc')
  else
    mapfile -d '' sources < <(git diff -z --name-only --diff-filter=d HEAD -- '*.cc'
      git ls-files -z --others --exclude-standard -- '*.cc')
  fi
  mapfile -d '' sources < <(printf '%s\0' "${sources[@]}" |
    grep -zvE '^$|^(tests|tools)/|_cuda\.cc$|comm/nccl_(communicator|functions)\.cc$')
  if [ "${#sources[@]}" -eq 0 ]; then
    echo "check: tidy ok (no changed file)"
    return
  fi
  check_build build-tidy unipool_configs -DUNIPOOL_WITH_CUDA=OFF \
    -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DCMAKE_UNITY_BUILD=OFF
  printf '%s\0' "${sources[@]}" |
    xargs -0 -r -n 1 -P "$(nproc)" "$tidy" -p build-tidy --quiet 2> build-tidy/tidy.log ||
    failed tidy
  echo "check: tidy ok (${#sources[@]} files)"
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

if git rev-parse --git-dir > /dev/null 2>&1; then
  check_format
  check_shell
  check_python
  check_tidy
else
  echo "check: format, shell, python and tidy skipped: not a git checkout"
fi
python3 tools/check_layers.py || failed layers
echo "check: layers ok"
[ "$lint_only" = false ] || exit 0
check_build build all
check_build build-emulated cuda_tests -DUNIPOOL_WITH_CUDA=EMULATE
echo "check: build ok"
check_tests build fast
check_tests build-emulated cuda
echo "check: tests ok"
