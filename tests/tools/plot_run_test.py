#!/usr/bin/env python3
"""Tests of tools/plot_run.py on made-up runs: what it draws, and what it refuses in one line."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "plot_run.py"
VALIDATION = {"step": 0, "validation_loss": 5.5}
TRAINING = [{"step": step, "lm_loss": 5.0 - step, "layer_imbalance": 2.0, "pool_imbalance": 1.5}
            for step in (1, 2, 3)]
BAD_INPUT = 2


def text_of(records):
    return "".join(json.dumps(record) + "\n" for record in records)


class PlotRunTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.output = os.path.join(self.folder.name, "run.svg")

    def plot(self, metrics, *arguments, output=None):
        if metrics is not None:
            pathlib.Path(self.folder.name, "metrics.jsonl").write_text(metrics)
        return subprocess.run([sys.executable, TOOL, self.folder.name, "--output",
                               output or self.output, *arguments],
                              capture_output=True, text=True, check=False)

    def expect_refusal(self, done, said):
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(said, done.stderr)
        self.assertFalse(os.path.exists(self.output), "a file is left")

    def test_a_run_becomes_a_drawing(self):
        done = self.plot(text_of([VALIDATION] + TRAINING), "--line", "bigram=2.79")
        self.assertEqual(done.returncode, 0, done.stderr)
        drawing = pathlib.Path(self.output).read_text()
        self.assertTrue(drawing.startswith("<svg ") and drawing.endswith("</svg>\n"))
        self.assertIn("bigram 2.79", drawing)

    def test_a_run_without_a_training_step_is_refused(self):
        for records in ([], [VALIDATION]):
            with self.subTest(records=records):
                self.expect_refusal(self.plot(text_of(records)),
                                    "metrics.jsonl: no record of a training step")

    def test_a_broken_line_is_named_by_its_number(self):
        for broken, said in (('{"step": 4, "lm', "line 4: Unterminated string"),
                             ("[4]", "line 4: expected an object"),
                             ("{}", "line 4: expected an object")):
            with self.subTest(broken=broken):
                self.expect_refusal(self.plot(text_of(TRAINING) + broken), said)

    def test_a_run_that_cannot_be_read_is_refused(self):
        pathlib.Path(self.folder.name, "metrics.jsonl").mkdir()
        self.expect_refusal(self.plot(None), "metrics.jsonl: Is a directory")

    def test_an_output_that_cannot_be_written_is_refused(self):
        done = self.plot(text_of(TRAINING), output=os.path.join(self.folder.name, "no", "a.svg"))
        self.expect_refusal(done, "no/a.svg: No such file")

    def test_a_line_that_is_no_number_is_refused(self):
        self.expect_refusal(self.plot(text_of(TRAINING), "--line", "bigram"),
                            "--line bigram: expected NAME=LOSS")


if __name__ == "__main__":
    unittest.main()
