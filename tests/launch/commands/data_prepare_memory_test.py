#!/usr/bin/env python3
"""`unipool data prepare` of a plain text takes much less memory than the text has bytes."""
import os
import pathlib
import subprocess
import tempfile
import unittest

import command_support as support

VOCABULARY = support.ROOT / "tests" / "data" / "bpe"
MEGABYTE = 10**6
TEXT_BYTES = 150 * MEGABYTE
# The most that the program may hold beside what it holds for a text of a few bytes.
MOST_BYTES = 60 * MEGABYTE


class DataPrepareMemoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.long, cls.short = cls.path("long.txt"), cls.path("short.txt")
        line = b"a line of a long text, and a few words more: the tokens of a pool of experts\n"
        with open(cls.long, "wb") as file:
            for _ in range(TEXT_BYTES // (1000 * len(line))):
                file.write(1000 * line)
        pathlib.Path(cls.short).write_bytes(line)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def peak_bytes(self, source, *flags):
        """The largest resident memory of a preparation with two workers."""
        words = [support.PROGRAM, "data", "prepare", "--input", source, "--output",
                 self.path("out"), "--overwrite", "--workers", 2, *flags]
        job = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(job.pid, 0)
        job.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(job.returncode, 0)
        return usage.ru_maxrss * 1024

    def test_the_peak_does_not_grow_with_the_text(self):
        gpt2 = ["--tokenizer", "gpt2", "--vocab", VOCABULARY / "vocab.json",
                "--merges", VOCABULARY / "merges.txt"]
        for flags in ([], gpt2):
            more = self.peak_bytes(self.long, *flags) - self.peak_bytes(self.short, *flags)
            self.assertLess(more, MOST_BYTES, flags)


if __name__ == "__main__":
    unittest.main()
