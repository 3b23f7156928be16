#!/usr/bin/env python3
"""Whole runs of the program: the same losses on 1, 2, 3 and 4 ranks under the launcher as without
it, and the same bits in a second run."""
import os
import unittest

import command_support as support

COMPARED = ["lm_loss", "pool_loss", "layer_aux_loss"]


class TrainRanksTest(support.TextTest):
    def train(self, name, settings, ranks):
        run_dir = os.path.join(self.folder.name, name)
        done = support.run(support.train_command(self.prefix, run_dir, settings), ranks)
        self.assertEqual(done.returncode, 0, done.stderr)
        return support.metrics(run_dir)

    def expect_same(self, one, other):
        self.assertEqual(len(one), len(other))
        for a, b in zip(one[1:], other[1:]):  # the first has the validation before training only
            for key in COMPARED:
                self.assertAlmostEqual(a[key], b[key], delta=1e-5, msg=f"{key}, step {a['step']}")
        self.assertAlmostEqual(one[-1]["validation_loss"], other[-1]["validation_loss"], delta=1e-5)

    def test_any_number_of_ranks_gives_the_same_losses(self):
        for variant, settings in support.VARIANTS.items():
            alone = self.train(f"{variant}-alone", settings, 0)
            self.assertLess(alone[-1]["validation_loss"], alone[0]["validation_loss"] - 1)
            for ranks in (1, 2, 3, 4):
                with self.subTest(variant=variant, ranks=ranks):
                    self.expect_same(alone, self.train(f"{variant}-{ranks}", settings, ranks))

    def test_the_same_run_twice_gives_the_same_bits(self):
        keys = COMPARED + ["grad_norm"]
        first, second = (self.train(f"twice-{i}", {"pool.top_k": 2}, 3) for i in (1, 2))
        self.assertEqual([[record[key] for key in keys] for record in first[1:]],
                         [[record[key] for key in keys] for record in second[1:]])

    def test_a_run_without_a_validation_part_has_no_validation(self):
        run_dir = os.path.join(self.folder.name, "unvalidated")
        settings = {"data.split": "100,0,0", "eval.every_steps": 4, "steps": 6,
                    "divergence.action": "REWIND"}
        done = support.run(support.train_command(self.prefix, run_dir, settings))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('no validation: data.split = "100,0,0" has no validation part', done.stdout)
        steps = [record["step"] for record in support.metrics(run_dir)]
        self.assertEqual(steps, [1, 2, 3, 4, 5, 6])
        self.assertTrue(os.path.isdir(os.path.join(run_dir, "checkpoints", "step_00000000")))
        evaluate = ["evaluate", "--checkpoint", run_dir, "--sequences", "4"]
        self.assertEqual(support.run(evaluate + ["--split", "train"]).returncode, 0)
        done = support.run(evaluate)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr, 'unipool: data.split = "100,0,0" has no validation part; '
                                      "give that part a weight above 0\n")

    def test_a_finished_run_says_so_and_logs_are_appended(self):
        run_dir = os.path.join(self.folder.name, "finished")
        command = support.train_command(self.prefix, run_dir)
        self.assertEqual(support.run(command, ranks=2).returncode, 0)
        again = support.run(command, ranks=2)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("finished          an earlier start has trained all 10 steps; ", again.stdout)
        logs = sorted(os.listdir(os.path.join(run_dir, "log")))
        self.assertEqual(len(logs), 2, logs)
        for rank, name in enumerate(logs):
            self.assertRegex(name, rf"^rank_0000{rank}\.[\w.-]+\.log$")
            with open(os.path.join(run_dir, "log", name), encoding="utf-8") as file:
                text = file.read()
            self.assertEqual(text.count("] unipool 0."), 2, text)
            self.assertNotIn('"lm_loss"', text)
        extended = support.run(support.train_command(self.prefix, run_dir, {"steps": 12}), ranks=2)
        self.assertIn("steps 11 to 12, of this start", extended.stdout)

    def test_a_smoke_test_leaves_the_run_alone(self):
        run_dir = os.path.join(self.folder.name, "long")
        command = support.train_command(self.prefix, run_dir, {
            "steps": 3000, "schedule.warmup_steps": 300, "checkpoint.every_steps": 2})
        for _ in range(2):  # the second one replaces the first
            done = support.run(command + ["--smoke", "5"], ranks=2)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"smoke test in {run_dir}-smoke: steps and schedule.decay_steps 5, ",
                          done.stdout)
        self.assertFalse(os.path.exists(run_dir))
        self.assertEqual(len(support.metrics(run_dir + "-smoke")), 6)
        self.assertFalse(os.listdir(os.path.join(run_dir + "-smoke", "checkpoints")))
        done = support.run(command + ["--set", "steps=20"])
        self.assertEqual(done.returncode, 2)
        self.assertIn("train --smoke N", done.stderr)
        self.assertEqual(support.run(command + ["--smoke", "0"]).returncode, 2)

    def test_a_run_without_a_training_part_is_refused(self):
        run_dir = os.path.join(self.folder.name, "untrained")
        command = support.train_command(self.prefix, run_dir, {"data.split": "0,50,50"})
        done = support.run(command)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr, 'unipool: data.split = "0,50,50" has no train part; '
                                      "give that part a weight above 0\n")
        self.assertFalse(os.path.exists(run_dir))


if __name__ == "__main__":
    unittest.main()
