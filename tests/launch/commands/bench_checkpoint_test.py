#!/usr/bin/env python3
"""`unipool bench checkpoint` prints every figure, on one and two ranks, and removes its files; a
folder that cannot be written is an error of one line."""
import os
import pathlib
import re
import tempfile
import unittest

import command_support as support

SETTINGS = {"model.hidden": 64, "data.prefix": "made up"}

FIGURES = [
    r"^state +(\S+) GB, ranks RANKS, median of 2 rounds$",
    r"^write +(\S+) GB/s, plain (\S+) GB/s: (\S+) %$",
    r"^read +(\S+) GB/s, plain (\S+) GB/s: (\S+) %$",
    r"^read back +(\S+) GB/s, as part of a save$",
    r"^copy +(\S+) s that a save pauses training$",
]


def bench(folder, ranks=0):
    command = ["bench", "checkpoint", "--times", 2, "--dir", folder]
    for field, value in dict(support.SETTINGS, **SETTINGS).items():
        command += ["--set", f"{field}={value}"]
    return support.run(command, ranks)


class BenchCheckpointTest(unittest.TestCase):
    def test_every_figure_is_there_and_no_file(self):
        for ranks in (0, 2):
            with tempfile.TemporaryDirectory() as folder:
                done = bench(folder, ranks)
                self.assertEqual(done.returncode, 0, done.stderr)
                for figure in FIGURES:
                    pattern = figure.replace("RANKS", str(max(1, ranks)))
                    found = re.search(pattern, done.stdout, re.MULTILINE)
                    self.assertTrue(found, f"{pattern} in {done.stdout}")
                    for number in found.groups():
                        self.assertGreater(float(number), 0, found.group())
                self.assertEqual(os.listdir(folder), [])

    def test_the_state_is_weights_and_moments(self):
        with tempfile.TemporaryDirectory() as folder:
            output = bench(folder).stdout
        gigabytes = float(re.search(FIGURES[0].replace("RANKS", "1"), output, re.M).group(1))
        # Matrices: embedding and head, attention of 3 layers, 7 experts. Three numbers of each.
        parameters = 2 * 257 * 64 + 3 * 3 * 64 * 64 + 7 * 3 * 48 * 64
        self.assertGreater(gigabytes * 1e9, 3 * 4 * parameters)
        self.assertLess(gigabytes * 1e9, 1.3 * 3 * 4 * parameters)

    def test_a_folder_that_cannot_be_written_is_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            blocker = pathlib.Path(folder, "a-file")
            blocker.write_text("in the way")
            for ranks in (0, 2):
                done = bench(blocker, ranks)
                self.assertEqual(done.returncode, 2, done.stderr)
                lines = [line for line in done.stderr.splitlines() if line.startswith("unipool:")]
                self.assertEqual(len(lines), 1, done.stderr)
                self.assertIn(f"{blocker}: no folder can be made here", lines[0])


if __name__ == "__main__":
    unittest.main()
