#!/usr/bin/env bash
# Runs a compile command. Writes the reports of ptxas on each kernel to OBJECT.ptxas and all other
# messages to stderr.
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
messages=$("$@" 2>&1)
status=$?
report='^ptxas info|^ +[0-9]+ bytes stack frame|^$'
if [ -n "$object" ]; then grep -E "$report" <<< "$messages" > "$object.ptxas"; fi
grep -vE "$report" <<< "$messages" >&2
exit $status
