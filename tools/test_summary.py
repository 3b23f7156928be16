#!/usr/bin/env python3
"""Counts the tests in JUnit files of ctest: each case of a GoogleTest program, and each other test,
counts as one. Prints skipped tests with reasons, failed tests, and `N passed, N failed, N skipped`.

usage: test_summary.py JUNIT.xml ...     Exit status 1: a test failed, or none passed.
"""
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

# The last lines of a GoogleTest program, also with --gtest_brief=1. Each failed case has a line.
RAN = re.compile(r"^\[==========\] \d+ tests? from .* ran\.", re.MULTILINE)
PASSED = re.compile(r"^\[  PASSED  \] (\d+) tests?\b", re.MULTILINE)
SKIPPED = re.compile(r"^\[  SKIPPED \] (\d+) tests?\b", re.MULTILINE)
FAILED = re.compile(r"^\[  FAILED  \] (\w+\.\w+|\w+/\w+\.[\w/]+)", re.MULTILINE)
# "x_test.cc:12: Skipped", followed by the lines of the reason.
REASON = re.compile(r"^\S+:\d+: Skipped\n((?:(?!\[ |\[=|\S+:\d+: )\S.*\n?)*)", re.MULTILINE)


def largest_count(pattern, output):
    """Returns the largest count in the output: under the launcher every rank prints all cases."""
    return max((int(number) for number in pattern.findall(output)), default=0)


def count_not_run(case, output):
    """Counts a test with the status "notrun" or "disabled". It is skipped if its exit status asks
    for that or if it is disabled; it has failed if it could not be started."""
    skip = case.find("skipped")
    why = skip.get("message", "") if skip is not None else "disabled"
    if case.get("status") == "notrun" and not why.startswith("SKIP_"):
        return 0, 1, 0, []
    lines = output.strip().splitlines()
    return 0, 0, 1, [lines[-1] if lines else why]


def count_case(case):
    """Returns (passed, failed, skipped, reasons) of one test of ctest."""
    output = case.findtext("system-out") or ""
    if case.get("status") in ("notrun", "disabled"):
        return count_not_run(case, output)
    has_failed = case.get("status") != "run"
    if not RAN.search(output):
        return int(not has_failed), int(has_failed), 0, []
    failed = max(len(set(FAILED.findall(output))), int(has_failed))
    reasons = list(dict.fromkeys(" ".join(text.split()) for text in REASON.findall(output)))
    return (largest_count(PASSED, output), failed, largest_count(SKIPPED, output),
            [text for text in reasons if text])


def main():
    passed = failed = skipped = 0
    for path in sys.argv[1:]:
        if not os.path.exists(path):
            continue
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            p, f, s, reasons = count_case(case)
            passed, failed, skipped = passed + p, failed + f, skipped + s
            if s:
                why = "; ".join(reasons) or "no reason given"
                print(f"skipped: {s} of {case.get('name')}: {why}")
            if f:
                print(f"failed: {f} of {case.get('name')}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
