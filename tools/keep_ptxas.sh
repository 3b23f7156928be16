#!/usr/bin/env bash
# Runs a compile command; what ptxas reports of each kernel goes to OBJECT.ptxas, the rest to
# stderr.
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
