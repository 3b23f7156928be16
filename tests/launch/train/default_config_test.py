#!/usr/bin/env python3
"""A config that states only what is required trains: routers give nearly all tokens an expert.
Settings that lose tokens are warned of, with what to change."""
import json
import os
import pathlib
import tempfile
import unittest

import command_support as support

CONFIG = """steps: 20
model {{ vocab: 257 hidden: {hidden} layers: {layers} heads: 4 sequence: 64 }}
pool {{ experts: {experts} }}
data {{ prefix: "{prefix}" global_batch: 32 }}
"""


class DefaultConfigTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        text = os.path.join(cls.folder.name, "text.txt")
        sources = sorted((support.ROOT / "tests").rglob("*.py"))
        pathlib.Path(text).write_bytes(b"".join(path.read_bytes() for path in sources))
        cls.prefix = os.path.join(cls.folder.name, "text")
        done = support.run(["data", "prepare", "--input", text, "--output", cls.prefix,
                            "--tokenizer", "byte"])
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def train(self, hidden, layers, experts, settings=()):
        run_dir = tempfile.mkdtemp(dir=self.folder.name)
        config = pathlib.Path(run_dir, "mine.textproto")
        config.write_text(CONFIG.format(hidden=hidden, layers=layers, experts=experts,
                                        prefix=self.prefix))
        command = ["train", "--config", config, "--run-dir", os.path.join(run_dir, "run"),
                   "--set", "data.split=100,0,0", "--set", "checkpoint.save_final=false"]
        for setting in settings:
            command += ["--set", setting]
        done = support.run(command, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        records = pathlib.Path(run_dir, "run", "metrics.jsonl").read_text().splitlines()
        shares = [json.loads(record).get("unrouted_share", 0) for record in records]
        return shares, done

    def test_defaults_lose_few_tokens(self):
        for hidden, layers, experts in ((64, 2, 32), (64, 4, 32), (32, 2, 16), (128, 2, 48),
                                        (64, 2, 8), (64, 2, 4), (64, 2, 1)):
            with self.subTest(hidden=hidden, layers=layers, experts=experts):
                shares, done = self.train(hidden, layers, experts)
                self.assertLess(max(shares[-10:]), 0.05)
                self.assertNotIn("have no expert", done.stderr + done.stdout)

    def test_settings_that_lose_tokens_are_warned_of(self):
        shares, done = self.train(64, 4, 32, ["model.init_std=0.01", "pool.pool_loss=0.01"])
        self.assertGreater(max(shares), 0.2)
        self.assertIn("of (token, layer) pairs have no expert", done.stderr)
        self.assertIn("pool.pool_loss", done.stderr)
        self.assertIn("have no expert", done.stdout)  # the summary


if __name__ == "__main__":
    unittest.main()
