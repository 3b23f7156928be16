#!/usr/bin/env python3
"""Runs whose loss or gradient norm jumps: they rewind to a checkpoint and skip data, or skip
updates, in the same way on any number of ranks. Stopped and resumed they end like undisturbed
ones."""
import os
import pathlib
import unittest

import command_support as support

# At step 6 the gradient norm of this small run rises above its median.
JUMPY = {"steps": 16, "eval.every_steps": 5, "checkpoint.every_steps": 2,
         "checkpoint.keep_last": 0, "divergence.norm_spike": 1.05, "divergence.window": 4}
REWIND = dict(JUMPY, **{"divergence.action": "REWIND", "divergence.max_rewinds": 20})
# From step 3 on, all numbers are NaN.
BROKEN = {"steps": 10, "schedule.lr": 1e38, "schedule.min_lr": 1e37, "checkpoint.every_steps": 1,
          "divergence.action": "REWIND", "divergence.max_rewinds": 2}


class RewindTest(support.TextTest):
    def train(self, name, settings, *flags, ranks=0, code=0):
        run_dir = os.path.join(self.folder.name, name)
        done = support.run(support.train_command(self.prefix, run_dir, settings) + list(flags),
                           ranks)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return run_dir, done

    def expect_undisturbed(self, name, settings, stops, ranks):
        whole, _ = self.train(f"{name}-{ranks}", settings, ranks=ranks)
        for step in stops:
            self.train(f"{name}-{ranks}-stopped", settings, "--stop-after", str(step), ranks=ranks)
        stopped, _ = self.train(f"{name}-{ranks}-stopped", settings, ranks=ranks)
        support.expect_same(self, whole, stopped)
        return support.metrics(whole)

    def test_a_rewind_keeps_one_record_per_step_and_skips_data(self):
        run_dir, done = self.train("once", REWIND)
        records = support.metrics(run_dir)
        self.assertEqual([record["step"] for record in records], list(range(17)))
        self.assertRegex(done.stdout, "diverged at step 6: gradient norm .*: rewound to step 4, "
                         r"skipping the data of 2 steps \(rewind 1 of 20\)")
        self.assertGreater(records[-1]["rewinds"], 0)
        plain = support.metrics(self.train("plain", dict(JUMPY, **{"divergence.norm_spike": 0}))[0])
        for a, b in zip(records[1:5], plain[1:5]):
            self.assertEqual(a["lm_loss"], b["lm_loss"])
        self.assertNotEqual(records[5]["lm_loss"], plain[5]["lm_loss"])
        self.assertEqual(records[5]["lr"], plain[5]["lr"])
        manifest = (support.latest_checkpoint(run_dir) / "manifest.textproto").read_text()
        self.assertIn(f"rewound_steps: {2 * records[-1]['rewinds']}\n", manifest)

    def test_runs_that_rewind_resume_bit_for_bit(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                records = self.expect_undisturbed("rewinds", REWIND, (4, 8, 10), ranks)
                self.assertGreater(records[-1]["rewinds"], 0)

    def test_runs_that_skip_updates_resume_bit_for_bit(self):
        skip = dict(JUMPY, **{"divergence.action": "SKIP_UPDATE", "divergence.norm_spike": 1.5})
        local = {"pool.statistics": "LOCAL", "data.micro_batch": 2}
        for name, more, ranks in (("skips", {}, 0), ("skips-local", local, 2)):
            with self.subTest(name):
                records = self.expect_undisturbed(name, dict(skip, **more), (5, 6, 7, 9), ranks)
                self.assertGreater(records[-1]["skipped_updates"], 0)
                self.assertLess(records[-1]["skipped_updates"], 10)

    def test_the_maximum_of_rewinds_ends_the_run(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                run_dir, done = self.train(f"broken-{ranks}", BROKEN, ranks=ranks, code=3)
                self.assertIn("rewound to step 2, skipping the data of 1 steps", done.stdout)
                # No step was sound after it, so that checkpoint may be bad.
                self.assertIn("rewound to step 1, skipping the data of 2 steps", done.stdout)
                self.assertEqual(done.stderr.count("diverged at step 3 after 2 rewinds: loss nan"),
                                 1, done.stderr)
                self.assertEqual(support.metrics(run_dir)[-1]["step"], 2)

    def test_a_run_without_a_checkpoint_cannot_rewind(self):
        run_dir, done = self.train("none", dict(BROKEN, **{"checkpoint.every_steps": 0}), code=3)
        self.assertIn("no checkpoint to rewind to", done.stderr)
        self.assertEqual(list(pathlib.Path(run_dir, "checkpoints").iterdir()), [])

    def test_a_run_that_diverges_before_its_first_save_rewinds_to_its_start(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                late = dict(BROKEN, **{"checkpoint.every_steps": 100})
                run_dir, done = self.train(f"early-{ranks}", late, ranks=ranks, code=3)
                for rewind in (1, 2):
                    self.assertIn("diverged at step 3: loss nan", done.stdout)
                    self.assertIn("rewound to step 0, skipping the data of 3 steps (rewind "
                                  f"{rewind} of 2)", done.stdout)
                self.assertIn("diverged at step 3 after 2 rewinds: loss nan", done.stderr)
                self.assertEqual([record["step"] for record in support.metrics(run_dir)], [0, 1, 2])

    def test_a_run_that_diverges_before_training_cannot_rewind(self):
        _, done = self.train("first", dict(BROKEN, **{"model.init_std": 1e30}), code=3)
        self.assertIn("the validation loss is nan; no checkpoint to rewind to", done.stderr)

    def test_a_validation_that_is_not_finite_is_a_bad_step_before_it(self):
        validated = dict(BROKEN, **{"eval.every_steps": 1})
        for action in ("STOP", "SKIP_UPDATE"):
            _, done = self.train(f"validation-{action}",
                                 dict(validated, **{"divergence.action": action}), code=3)
            self.assertEqual(done.stderr.count("diverged at step 2: the validation loss is nan\n"),
                             1, done.stderr)
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                _, done = self.train(f"validation-{ranks}", validated, ranks=ranks, code=3)
                self.assertIn("diverged at step 2: the validation loss is nan: rewound to step 1, "
                              "skipping the data of 1 steps (rewind 1 of 2)", done.stdout)
                self.assertIn("rewound to step 0, skipping the data of 2 steps", done.stdout)
                self.assertEqual(
                    done.stderr.count("diverged at step 2 after 2 rewinds: the validation loss is"),
                    1, done.stderr)

    def test_another_action_may_resume_a_run_that_diverged(self):
        stop = dict(BROKEN, **{"divergence.action": "STOP"})
        self.train("changed", stop, code=3)
        _, done = self.train("changed", BROKEN, code=3)
        self.assertIn("(rewind 1 of 2)", done.stdout)


if __name__ == "__main__":
    unittest.main()
