#!/usr/bin/env python3
"""`unipool config init` prints a config that loads, and `unipool config help` describes every field
that configs/reference.md lists."""
import os
import pathlib
import re
import tempfile
import unittest

import command_support as support

FIELDS = re.findall(r'<a id="([\w.]+)"></a>`([\w.]+)` \| (\w+)',
                    (support.ROOT / "configs" / "reference.md").read_text())
BAD_INPUT = 2


class ConfigHelpTest(unittest.TestCase):
    def output(self, *words):
        done = support.run(["config", *words])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_a_starter_config_loads_and_says_what_its_fields_mean(self):
        usage = self.output("init", "--help")
        sizes = re.search(r"--size (\S+)", usage).group(1).split("|")
        self.assertEqual(sizes, ["small", "182m", "469m", "650m", "830m", "978m"])
        with tempfile.TemporaryDirectory() as folder:
            for size in sizes:
                text = self.output("init", "--size", size)
                path = os.path.join(folder, "mine.textproto")
                pathlib.Path(path).write_text(text)
                self.assertIn("experts:", self.output("show", path))
                lines = text.splitlines()
                for before, line in zip(lines, lines[1:]):
                    if re.match(r" *\w+:", line):
                        self.assertRegex(before, r"^ *# ")
        self.assertEqual(self.output("init"), self.output("init", "--size", "small"))

    def test_every_field_is_described(self):
        self.assertGreater(len(FIELDS), 60)
        for path, name, kind in FIELDS:
            text = self.output("help", path)
            self.assertRegex(text, rf"^{path}: (list of )?{kind}")
            self.assertGreater(len(text.splitlines()), 1)
            self.assertLess(max(map(len, text.splitlines())), 101)
            self.assertTrue(path.endswith(name))
        for word in ("double, default 0.001", "Coefficient alpha", "Range: at least 0."):
            self.assertIn(word, self.output("help", "pool.pool_loss"))
        self.assertIn("  SIGMOID_BIAS\n      Sigmoid scores.", self.output("help", "pool.router"))

    def test_a_message_lists_its_fields(self):
        self.assertIn("pool.top_k: int64, default 1\n", self.output("help", "pool"))
        self.assertIn("\nmodel: message\n", self.output("help"))

    def test_mistakes_are_one_line_with_the_nearest_name(self):
        for words, said in ((["help", "pool.pol_loss"], 'did you mean "pool_loss"?'),
                            (["help", "lr"], 'did you mean "schedule.lr"?'),
                            (["help", "steps.x"], "steps has no fields"),
                            (["init", "--size", "128m"], 'did you mean "182m"?')):
            done = support.run(["config", *words])
            self.assertEqual(done.returncode, BAD_INPUT)
            self.assertIn(said, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
