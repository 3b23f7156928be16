#!/usr/bin/env python3
"""The program on a real or emulated GPU: trains, resumes on another device, evaluates, benchmarks.
Skipped (exit status 77) without a GPU."""
import os
import sys
import unittest

import command_support as support

SKIPPED = 77
ONE_GPU = {"CUDA_VISIBLE_DEVICES": "0"}
SETTINGS = {"steps": 3, "model.hidden": 16, "model.layers": 2, "model.sequence": 16,
            "model.ffn": 16, "data.global_batch": 4, "eval.sequences": 2,
            "schedule.decay_steps": 4}


class ProgramTest(support.TextTest):
    def train(self, name, device, settings=None, ranks=0):
        run_dir = os.path.join(self.folder.name, name)
        command = support.train_command(self.prefix, run_dir, dict(SETTINGS, **(settings or {})))
        done = support.run(command + ["--device", device], ranks, environment=ONE_GPU)
        self.assertEqual(done.returncode, 0, done.stderr)
        return run_dir, done.stdout + done.stderr

    def test_a_run_on_a_gpu_resumes_on_the_cpu(self):
        run_dir, output = self.train("moved", "cuda")
        self.assertIn("computes on cuda:0 (", output)
        self.assertIn("bfloat16", output)
        self.assertIn("GPU memory", output)
        _, output = self.train("moved", "cpu", {"steps": 4})
        self.assertIn("resumed after step 3", output)
        self.assertIn("computes on CPU, float32", output)
        alone, _ = self.train("alone", "cpu", {"steps": 4})
        moved = support.metrics(run_dir)[-1]["lm_loss"]
        expected = support.metrics(alone)[-1]["lm_loss"]
        self.assertAlmostEqual(moved, expected, delta=1e-2 * expected)

    def test_two_ranks_share_a_gpu_with_a_warning(self):
        alone, _ = self.train("one", "cuda", {"model.precision": "FP32"})
        shared, output = self.train("two", "cuda", {"model.precision": "FP32"}, ranks=2)
        self.assertEqual(output.count("through host memory and are slower: ranks 0 and 1 share"), 1)
        for one, two in zip(support.metrics(alone)[1:], support.metrics(shared)[1:]):
            self.assertAlmostEqual(one["lm_loss"], two["lm_loss"], delta=1e-4)

    def test_a_model_is_evaluated_and_benched_on_a_gpu(self):
        run_dir, _ = self.train("evaluated", "cuda")
        losses = []
        for device in ("cuda", "cpu"):
            done = support.run(["evaluate", "--checkpoint", run_dir, "--device", device, "--json"])
            self.assertEqual(done.returncode, 0, done.stderr)
            losses.append(support.json.loads(done.stdout)["loss"])
        self.assertAlmostEqual(losses[0], losses[1], delta=1e-2 * losses[1])
        command = support.train_command(self.prefix, run_dir, SETTINGS)[3:]
        done = support.run(["bench", "step", "--device", "cuda", "--steps", 1] + command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("cuda:0", done.stdout)
        self.assertIn("reserved for activations", done.stdout)


def why_no_gpu():
    done = support.run(["bench", "step", "--device", "cuda"] +
                       support.train_command("nowhere", "nowhere", SETTINGS)[3:])
    return done.stderr.strip() if done.returncode == 2 else ""


if __name__ == "__main__":
    if why_no_gpu():
        print("skipped:", why_no_gpu())
        sys.exit(SKIPPED)
    unittest.main()
