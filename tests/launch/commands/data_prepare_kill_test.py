#!/usr/bin/env python3
"""`unipool data prepare` killed at any moment leaves either complete output files or none; a second
run writes the same bytes as a run that was never killed."""
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import unittest

import command_support as support

VOCABULARY = support.ROOT / "tests" / "data" / "bpe"
KILLS = 6


class DataPrepareKillTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.source = os.path.join(self.folder.name, "text.jsonl")
        generator = random.Random(8)
        with open(self.source, "w") as file:
            for _ in range(4000):
                text = " ".join(f"token{generator.randrange(10**6)}" for _ in range(80))
                file.write(json.dumps({"text": text}) + "\n")

    def command(self, prefix, *flags):
        return ["data", "prepare", "--input", self.source, "--output", prefix,
                "--tokenizer", "gpt2", "--vocab", VOCABULARY / "vocab.json",
                "--merges", VOCABULARY / "merges.txt", "--workers", 2, *flags]

    def output(self, prefix):
        return [pathlib.Path(prefix + suffix).read_bytes() for suffix in (".bin", ".idx")]

    def kill_after(self, seconds, command):
        words = [support.PROGRAM] + [str(word) for word in command]
        job = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        job.send_signal(signal.SIGKILL)
        return job.wait()

    def test_a_killed_run_is_no_output_and_the_next_one_is_whole(self):
        whole = os.path.join(self.folder.name, "whole")
        started = time.monotonic()
        done = support.run(self.command(whole))
        seconds = time.monotonic() - started
        self.assertEqual(done.returncode, 0, done.stderr)
        killed = os.path.join(self.folder.name, "killed")
        kills = 0
        for i in range(KILLS):
            moment = seconds * (i + 0.5) / KILLS
            code = self.kill_after(moment, self.command(killed, "--overwrite"))
            kills += code == -signal.SIGKILL
            if os.path.exists(killed + ".idx"):
                self.assertEqual(self.output(killed), self.output(whole))
            else:
                inspected = support.run(["data", "inspect", killed])
                self.assertEqual(inspected.returncode, 2, inspected.stdout)
        self.assertGreater(kills, 0)
        for suffix in (".bin", ".idx"):
            pathlib.Path(killed + suffix).unlink(missing_ok=True)
        code = self.kill_after(seconds / 2, self.command(killed))
        again = support.run(self.command(killed, *([] if code else ["--overwrite"])))
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.output(killed), self.output(whole))
        left = [name for name in os.listdir(self.folder.name) if name.endswith(".partial")]
        self.assertEqual(left, [])

    # The kill may come after the new files got their names; then they are complete.
    def test_a_killed_overwrite_leaves_the_old_output_or_the_new(self):
        whole = os.path.join(self.folder.name, "whole")
        self.assertEqual(support.run(self.command(whole)).returncode, 0)
        prefix = os.path.join(self.folder.name, "old")
        small = os.path.join(self.folder.name, "small.txt")
        pathlib.Path(small).write_text("what was there before")
        done = support.run(["data", "prepare", "--input", small, "--output", prefix])
        self.assertEqual(done.returncode, 0, done.stderr)
        before = self.output(prefix)
        for seconds in (0.05, 0.2):
            code = self.kill_after(seconds, self.command(prefix, "--overwrite"))
            if code == 0:
                return
            if os.path.exists(prefix + ".idx"):
                self.assertTrue(self.output(prefix) in (before, self.output(whole)))


if __name__ == "__main__":
    unittest.main()
