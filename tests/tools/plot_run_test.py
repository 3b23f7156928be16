#!/usr/bin/env python3
"""Tests tools/plot_run.py on small runs: the drawing, and the one-line errors for bad input."""
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

    def expect_error(self, done, message):
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(message, done.stderr)
        self.assertFalse(os.path.exists(self.output), "an output file exists")

    def test_a_run_becomes_a_drawing(self):
        done = self.plot(text_of([VALIDATION] + TRAINING), "--line", "bigram=2.79")
        self.assertEqual(done.returncode, 0, done.stderr)
        drawing = pathlib.Path(self.output).read_text()
        self.assertTrue(drawing.startswith("<svg ") and drawing.endswith("</svg>\n"))
        self.assertIn("bigram 2.79", drawing)

    def test_a_run_without_a_training_step_is_an_error(self):
        for records in ([], [VALIDATION]):
            with self.subTest(records=records):
                self.expect_error(self.plot(text_of(records)),
                                  "metrics.jsonl has no record of a training step")

    def test_a_bad_line_is_reported_with_its_number(self):
        for line, message in (('{"step": 4, "lm', "line 4: Unterminated string"),
                              ("[4]", "line 4 is not a JSON object with an integer \"step\""),
                              ("{}", "line 4 is not a JSON object with an integer \"step\"")):
            with self.subTest(line=line):
                self.expect_error(self.plot(text_of(TRAINING) + line), message)

    def test_a_run_that_cannot_be_read_is_an_error(self):
        pathlib.Path(self.folder.name, "metrics.jsonl").mkdir()
        self.expect_error(self.plot(None), "metrics.jsonl: Is a directory")

    def test_an_output_that_cannot_be_written_is_an_error(self):
        done = self.plot(text_of(TRAINING), output=os.path.join(self.folder.name, "no", "a.svg"))
        self.expect_error(done, "no/a.svg: No such file")

    def test_a_line_without_a_number_is_an_error(self):
        self.expect_error(self.plot(text_of(TRAINING), "--line", "bigram"),
                          "--line bigram: give a name and a number, as in NAME=2.79")


if __name__ == "__main__":
    unittest.main()
