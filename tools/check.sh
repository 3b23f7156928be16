#!/usr/bin/env bash
# What is green before each commit: format, layers, build, fast tests. A line a part; stops at the
# first failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
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
  git ls-files -z '*.h' '*.cc' | xargs -0 -r "$formatter" --dry-run -Werror || failed format
  echo "check: format ok"
}

check_build() {
  local generator=()
  [ -f build/CMakeCache.txt ] || generator=(-G Ninja)
  cmake -S . -B build "${generator[@]}" > /dev/null &&
    cmake --build build --parallel "$(nproc)" > build/check.log || {
      tail -n 60 build/check.log
      failed build
    }
}

check_format
python3 tools/check_layers.py || failed layers
echo "check: layers ok"
check_build
echo "check: build ok"
ctest --test-dir build -L '^fast$' --output-on-failure -j2 --no-tests=error \
  > build/check.log 2>&1 || { cat build/check.log; failed tests; }
echo "check: tests ok"
