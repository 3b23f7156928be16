#!/usr/bin/env python3
"""Runs that are stopped and go on, as a user does it: the folder they leave is that of a run that
was never stopped; a damaged checkpoint is named and passed over; a changed config is refused."""
import json
import os
import pathlib
import re
import shutil
import unittest

import command_support as support

SETTINGS = {"steps": 8, "eval.every_steps": 3, "data.micro_batch": 2}


class ResumeTest(support.TextTest):
    def path(self, name):
        return os.path.join(self.folder.name, name)

    def train(self, name, *flags, ranks=0, settings=None, code=0):
        command = support.train_command(self.prefix, self.path(name),
                                        dict(SETTINGS, **(settings or {})))
        done = support.run(command + list(flags), ranks)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def expect_same(self, one, other):
        support.expect_same(self, self.path(one), self.path(other))

    def test_a_stopped_run_leaves_what_an_undisturbed_one_does(self):
        for ranks in (0, 3):
            with self.subTest(ranks=ranks):
                whole, stopped = f"whole-{ranks}", f"stopped-{ranks}"
                self.train(whole, ranks=ranks)
                for step in (0, 2, 3, 5):
                    self.train(stopped, "--stop-after", str(step), ranks=ranks)
                done = self.train(stopped, ranks=ranks)
                self.assertIn("goes on after step 5 of 8", done.stdout)
                self.expect_same(whole, stopped)

    def test_a_finished_run_has_nothing_left_to_do(self):
        self.train("finished")
        before = pathlib.Path(self.path("finished"), "metrics.jsonl").read_bytes()
        self.train("finished")
        self.assertEqual(pathlib.Path(self.path("finished"), "metrics.jsonl").read_bytes(), before)

    def test_the_summary_tells_what_saves_cost(self):
        done = self.train("saves", settings={"checkpoint.every_steps": 3})
        found = re.search(r"3 saved, 0 failed, \S+ GB at \S+ GB/s; training stood still for "
                          r"(\S+) s, (\S+) % of the time between saves; (\S+) s more at the end",
                          done.stdout)
        self.assertTrue(found, done.stdout)
        stalled, share, final = (float(number) for number in found.groups())
        recorded = sum(record.get("checkpoint_stall_seconds", 0)
                       for record in support.metrics(self.path("saves")))
        self.assertGreater(recorded, 0)
        self.assertGreaterEqual(stalled + 0.005, recorded)  # the text is rounded
        self.assertTrue(share > 0 and final > 0, found.group())
        done = self.train("saves-once", settings={"checkpoint.every_steps": 0})
        self.assertRegex(done.stdout, r"1 saved, 0 failed, \S+ GB at \S+ GB/s; \S+ s more at the")

    def test_records_after_the_checkpoint_come_again(self):
        self.train("behind", "--stop-after", "4")
        metrics = pathlib.Path(self.path("behind"), "metrics.jsonl")
        kept = metrics.read_text()
        metrics.write_text(kept + '{"step": 5, "tokens": 1}\n{"step": 6, "to')
        self.train("behind")
        self.assertTrue(metrics.read_text().startswith(kept))
        self.assertEqual([record["step"] for record in support.metrics(self.path("behind"))],
                         list(range(9)))

    def test_a_damaged_checkpoint_is_named_and_passed_over(self):
        self.train("damaged", "--stop-after", "3")
        self.train("damaged", "--stop-after", "6")
        shutil.copytree(self.path("damaged"), self.path("hopeless"))
        for name, steps in (("damaged", [6]), ("hopeless", [6, 3])):
            for step in steps:
                path = pathlib.Path(self.path(name), "checkpoints", f"step_{step:08d}",
                                    "optimizer-00000.safetensors")
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 4
                path.write_bytes(data)
        done = self.train("damaged")
        self.assertRegex(done.stderr, "step_00000006/optimizer-00000.safetensors: tensor '.*' is "
                         "damaged: expected xxh3_128 [0-9a-f]{32}, found [0-9a-f]{32}")
        self.assertIn("goes on after step 3 of 8", done.stdout)
        refused = self.train("hopeless", code=2)
        self.assertIn("none of 2 checkpoints is whole", refused.stderr)

    def test_more_steps_keep_the_rates_of_those_behind(self):
        self.train("short")
        self.train("short", settings={"steps": 10})
        records = support.metrics(self.path("short"))
        self.assertEqual(records[-1]["step"], 10)
        self.assertEqual(records[-1]["lr"], 1e-3)

    def test_changes_are_refused_field_by_field(self):
        self.train("changed", "--stop-after", "2")
        before = pathlib.Path(self.path("changed"), "metrics.jsonl").read_bytes()
        refused = self.train("changed", settings={"model.layers": 2, "optimizer.beta2": 0.5},
                             code=2)
        self.assertIn("model.layers = 2 (the checkpoint has 3)", refused.stderr)
        self.assertIn("optimizer.beta2 = 0.5 (the checkpoint has 0.999)", refused.stderr)
        self.assertEqual(pathlib.Path(self.path("changed"), "metrics.jsonl").read_bytes(), before)

    def test_a_run_without_a_checkpoint_begins_again_and_keeps_its_records(self):
        run_dir = pathlib.Path(self.path("killed-early"))
        run_dir.mkdir()
        (run_dir / "metrics.jsonl").write_text('{"step": 1}\n')
        done = self.train("killed-early")
        self.assertIn("metrics.jsonl.old", done.stderr)
        self.assertEqual((run_dir / "metrics.jsonl.old").read_text(), '{"step": 1}\n')
        self.assertEqual(len(support.metrics(run_dir)), 9)


class CheckpointCommandTest(support.TextTest):
    def test_inspect_verify_diff_and_export(self):
        run_dir = os.path.join(self.folder.name, "run")
        command = support.train_command(self.prefix, run_dir, {
            "steps": 5, "checkpoint.every_steps": 2, "checkpoint.keep_last": 2})
        self.assertEqual(support.run(command, 2).returncode, 0)
        checkpoints = pathlib.Path(run_dir, "checkpoints")
        self.assertEqual(sorted(os.listdir(checkpoints)),
                         ["latest", "step_00000004", "step_00000005"])
        said = self.checkpoint("inspect", checkpoints / "latest", "--json")
        self.assertEqual((json.loads(said)["step"], json.loads(said)["ranks"]), (5, 2))
        self.assertIn("good: 4 files", self.checkpoint("verify", checkpoints / "step_00000004"))
        self.assertIn("steps 5 and 5: the same", self.checkpoint("diff", run_dir, checkpoints))
        difference = json.loads(self.checkpoint("diff", run_dir, checkpoints / "step_00000004",
                                                "--json"))
        self.assertFalse(difference["same"])
        self.assertIn("lm_head.weight EXP_AVG", difference["tensors"])
        exported = os.path.join(self.folder.name, "exported")
        self.checkpoint("export", run_dir, "--output", exported)
        together = {}
        for path in support.latest_checkpoint(run_dir).glob("model-*.safetensors"):
            together.update(support.read_tensors(path))
        self.assertEqual(support.read_tensors(os.path.join(exported, "model.safetensors")),
                         together)
        config = json.loads(pathlib.Path(exported, "config.json").read_text())
        self.assertEqual((config["router"]["c"], config["pool_of_layer"]), (2.0, [0, 0, 0]))

    def checkpoint(self, *words):
        done = support.run(["checkpoint", *words])
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout


if __name__ == "__main__":
    unittest.main()
