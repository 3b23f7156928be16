"""Tests tools/test_summary.py on output that ctest and GoogleTest printed."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "test_summary.py")

SKIPS = """Running main() from ./googletest/src/gtest_main.cc
/x/a_test.cc:3: Skipped
needs a machine
with two lines
/x/a_test.cc:4: Skipped

"""
BRIEF = SKIPS + """[==========] 5 tests from 1 test suite ran. (0 ms total)
[  PASSED  ] 3 tests.
[  SKIPPED ] 2 tests.
"""
FAILS = SKIPS + """/x/a_test.cc:5: Failure
Expected equality of these values:
[  FAILED  ] A.Fails (0 ms)
[  FAILED  ] Sizes/A.AlsoFails/0, where GetParam() = 3 (0 ms)
[==========] 5 tests from 1 test suite ran. (0 ms total)
[  PASSED  ] 1 test.
[  SKIPPED ] 2 tests.
[  FAILED  ] A.Fails
"""


def case(status, output, inner=""):
    return (f'<testcase name="t" status="{status}">{inner}'
            f"<system-out>{output}</system-out></testcase>")


class TestSummary(unittest.TestCase):
    def summary(self, *cases):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "junit.xml")
            with open(path, "w", encoding="utf-8") as stream:
                stream.write("<testsuite>" + "".join(cases) + "</testsuite>")
            run = subprocess.run([sys.executable, TOOL, path, path + ".none"], capture_output=True,
                                 text=True, check=False)
        return run.returncode, run.stdout.splitlines()

    def test_counts_the_cases_of_a_program_and_gives_reasons_of_skips(self):
        self.assertEqual(self.summary(case("run", BRIEF)),
                         (0, ["skipped: 2 of t: needs a machine with two lines",
                              "3 passed, 0 failed, 2 skipped"]))

    def test_ranks_that_print_the_same_counts_count_once(self):
        self.assertEqual(self.summary(case("run", BRIEF + BRIEF))[1][-1],
                         "3 passed, 0 failed, 2 skipped")

    def test_counts_each_failed_case(self):
        status, lines = self.summary(case("fail", FAILS))
        self.assertEqual((status, lines[-1]), (1, "1 passed, 2 failed, 2 skipped"))

    def test_a_crash_or_a_timeout_is_one_failure(self):
        self.assertEqual(self.summary(case("fail", SKIPS), case("run", ""))[1],
                         ["failed: 1 of t", "1 passed, 1 failed, 0 skipped"])

    def test_a_program_that_fails_after_its_cases_has_failed(self):
        self.assertEqual(self.summary(case("fail", BRIEF))[1][-1], "3 passed, 1 failed, 2 skipped")

    def test_a_missing_program_is_a_failure_and_not_a_skip(self):
        skip = '<skipped message="SKIP_RETURN_CODE=77"/>'
        missing = '<skipped message="Unable to find executable"/>'
        status, lines = self.summary(case("notrun", "because\n", skip),
                                     case("notrun", "Unable ...", missing),
                                     case("disabled", "Disabled"))
        self.assertEqual((status, lines), (1, ["skipped: 1 of t: because", "failed: 1 of t",
                                               "skipped: 1 of t: Disabled",
                                               "0 passed, 1 failed, 2 skipped"]))

    def test_zero_tests_are_a_failure(self):
        self.assertEqual(self.summary(), (1, ["0 passed, 0 failed, 0 skipped"]))


if __name__ == "__main__":
    unittest.main()
