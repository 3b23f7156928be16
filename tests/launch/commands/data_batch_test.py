#!/usr/bin/env python3
"""`unipool data batch` prints what a run is trained on, and `order: MEGATRON` is Megatron's order:
whole batches of one shard and of blends against tests/data/megatron_reference.py."""
import json
import os
import pathlib
import random
import re
import struct
import sys
import tempfile
import unittest

import command_support as support

sys.path.insert(0, str(support.ROOT / "tests" / "data"))
import megatron_reference as reference

SPLIT = "80,15,5"
SEQUENCE, BATCH, STEPS, EVERY, EVAL = 16, 12, 60, 20, 5


def write_shard(prefix, sequences, code=8, letter="H"):
    """Megatron's pair, from the description of the format: one sequence a document; ids of the type
    with the number `code` and the letter of `struct`, uint16 unless given."""
    ids = [token for sequence in sequences for token in sequence]
    pathlib.Path(prefix + ".bin").write_bytes(struct.pack(f"<{len(ids)}{letter}", *ids))
    count, starts = len(sequences), [0]
    for sequence in sequences:
        starts.append(starts[-1] + struct.calcsize(letter) * len(sequence))
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, count, count + 1)
    index += struct.pack(f"<{count}i", *map(len, sequences))
    index += struct.pack(f"<{count}q", *starts[:-1])
    index += struct.pack(f"<{count + 1}q", *range(count + 1))
    pathlib.Path(prefix + ".idx").write_bytes(index)


def make_shard(generator, documents):
    return [[generator.randrange(257) for _ in range(generator.randrange(1, 60))]
            for _ in range(documents)]


class DataBatch(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        generator = random.Random(11)
        self.shards = [make_shard(generator, documents) for documents in (150, 60, 37)]
        self.prefixes = [os.path.join(self.folder, f"shard{i}") for i in range(3)]
        for prefix, shard in zip(self.prefixes, self.shards):
            write_shard(prefix, shard)

    def config(self, data):
        path = os.path.join(self.folder, "run.textproto")
        pathlib.Path(path).write_text(f"""
            steps: {STEPS}
            model {{ vocab: 257 hidden: 8 layers: 1 heads: 2 sequence: {SEQUENCE} ffn_kind: DENSE }}
            data {{ {data} split: "{SPLIT}" global_batch: {BATCH} }}
            eval {{ every_steps: {EVERY} sequences: {EVAL} }}""")
        return path

    def batches(self, config, *words):
        done = support.run(["data", "batch", "--config", config, *words])
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def expect_samples(self, expected, config, part="train", size=BATCH):
        steps = len(expected) // size
        batches = self.batches(config, "--steps", steps, "--part", part)
        self.assertEqual([batch["step"] for batch in batches], list(range(1, steps + 1)))
        found = [sample for batch in batches for sample in batch["samples"]]
        self.assertEqual(found, expected)

    def test_one_shard_is_megatrons_order(self):
        config = self.config(f'prefix: "{self.prefixes[0]}" order: MEGATRON')
        split = [float(weight) for weight in SPLIT.split(",")]
        bounds = reference.split_bounds(split, len(self.shards[0]))
        wanted = {"train": STEPS * BATCH, "validation": (STEPS // EVERY + 1) * EVAL, "test": EVAL}
        for part, name in enumerate(wanted):
            expected = reference.samples(self.shards[0], bounds[part], bounds[part + 1], SEQUENCE,
                                         wanted[name], 1234)
            self.expect_samples(expected, config, name, BATCH if part == 0 else EVAL)

    def test_blends_are_megatrons_order(self):
        split = [float(weight) for weight in SPLIT.split(",")]
        for weights, seed in (([1, 1, 1], 1234), ([0.7, 0.05, 2], 77),
                              ([0.7, 0.2, 0.1], 5)):
            sources = " ".join(f'source {{ prefix: "{prefix}" weight: {weight} }}'
                               for prefix, weight in zip(self.prefixes, weights))
            config = self.config(sources + " order: MEGATRON")
            config_text = pathlib.Path(config)
            config_text.write_text(config_text.read_text() + f"\nseed: {seed}\n")
            for part, (name, wanted, size) in enumerate(
                    (("train", STEPS * BATCH, BATCH),
                     ("validation", (STEPS // EVERY + 1) * EVAL, EVAL), ("test", EVAL, EVAL))):
                expected = reference.blended(self.shards, weights, part, split,
                                             (SEQUENCE, wanted, seed))
                self.expect_samples(expected, config, name, size)

    def test_any_step_alone_is_that_of_the_whole(self):
        sources = " ".join(f'source {{ prefix: "{prefix}" }}' for prefix in self.prefixes)
        for order in ("MEGATRON", "STATELESS"):
            config = self.config(f"{sources} order: {order}")
            whole = self.batches(config, "--steps", STEPS)
            for step in (1, 2, 31, STEPS):
                self.assertEqual(self.batches(config, "--step", step), [whole[step - 1]])
            skipped = self.batches(config, "--step", 3, "--set", "data.skip_steps=4")
            self.assertEqual(skipped[0]["step"], 3)
            self.assertEqual(skipped[0]["samples"], whole[6]["samples"])

    def test_an_id_beyond_32_bits_is_refused(self):
        prefix = os.path.join(self.folder, "wide")
        ids = list(range(SEQUENCE + 1)) * 8
        config = self.config(f'prefix: "{prefix}"')
        for value, status in ((2**31 - 1, 0), (-2**31, 0), (2**31, 2), (-2**40, 2), (2**62, 2)):
            ids[5] = value
            write_shard(prefix, [ids], 5, "q")
            done = support.run(["data", "batch", "--config", config, "--set", "data.split=100,0,0",
                                "--set", "eval.every_steps=0"])
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(f"token 5 has id {value}," if status else "", done.stderr)

    def test_a_full_disk_is_reported_once(self):
        config = self.config(f'prefix: "{self.prefixes[0]}"')
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = support.subprocess.run(
                [support.PROGRAM, "data", "batch", "--config", config, "--steps", "50"],
                stdout=full, stderr=support.subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_a_read_only_folder_is_no_obstacle(self):
        config = self.config(f'prefix: "{self.prefixes[0]}" order: MEGATRON')
        cache = os.path.join(self.folder, "cache")
        setting = f"data.cache_folder={cache}"
        expected = self.batches(config, "--set", setting)
        self.assertEqual(len(os.listdir(cache)), 1)
        self.assertFalse([name for name in os.listdir(self.folder) if name.endswith(".order")])
        done = support.run(["data", "batch", "--config", config, "--set",
                            "data.cache_folder=/proc/none"])
        self.assertEqual(json.loads(done.stdout), expected[0])
        self.assertIn("data.cache_folder", done.stderr)

    def test_ranks_share_one_build_and_train_on_what_is_printed(self):
        sources = " ".join(f'source {{ prefix: "{prefix}" }}' for prefix in self.prefixes)
        config = self.config(f"{sources} order: MEGATRON")
        losses = []
        for ranks in (1, 3):
            run_dir = os.path.join(self.folder, f"run{ranks}")
            command = ["train", "--config", config, "--run-dir", run_dir]
            for setting in ("steps=4", "eval.test=true", "eval.window=ADVANCING",
                            "eval.every_steps=2"):
                command += ["--set", setting]
            done = support.run(command, ranks)
            self.assertEqual(done.returncode, 0, done.stderr)
            records = support.metrics(run_dir)
            losses.append([records[-1]["lm_loss"], records[-1]["validation_loss"],
                           records[-1]["test_loss"]])
            self.assertNotIn("test_loss", records[-2])
        for one, three in zip(*losses):
            self.assertAlmostEqual(one, three, places=4)
        names = [name for name in os.listdir(self.folder) if name.endswith(".order")]
        self.assertEqual(len(names), 12)  # three parts of three shards, and three blends
        self.assertFalse([name for name in os.listdir(self.folder)
                          if re.search(r"\.(lock|partial)$", name)])

    def test_a_blend_goes_on_and_megatrons_number_of_steps_is_not_free(self):
        sources = " ".join(f'source {{ prefix: "{prefix}" }}' for prefix in self.prefixes)
        for order, status in (("STATELESS", 0), ("MEGATRON", 2)):
            config = self.config(f"{sources} order: {order}")
            command = ["train", "--config", config, "--run-dir", os.path.join(self.folder, order)]
            done = support.run(command + ["--set", "steps=2"])
            self.assertEqual(done.returncode, 0, done.stderr)
            done = support.run(command + ["--set", "steps=3"])
            self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn("steps = 3 (the checkpoint has 2)", done.stderr)

    def test_bad_input_is_one_line(self):
        config = self.config(f'prefix: "{self.prefixes[0]}"')
        for words, expected in ((["--step", "0"], "--step"), (["--part", "all"], "--part=all"),
                                (["--set", "data.prefix=/no/such"], "/no/such.idx")):
            done = support.run(["data", "batch", "--config", config, *words])
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(expected, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
