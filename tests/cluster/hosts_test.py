#!/usr/bin/env python3
"""Training on several hosts: the losses equal those of a single process; a run survives a network
cut of five seconds; after the loss of a host it restarts on the remaining ones."""
import os
import subprocess
import tempfile
import time
import unittest

import cluster_support as cluster
import command_support as support
import process_support as process


class HostsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = support.write_text(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def command(self, name, steps, extra=None):
        settings = {"steps": steps, "parallel.threads": 1, "eval.every_steps": 0,
                    "checkpoint.every_steps": 20, "schedule.warmup_steps": 2, **(extra or {})}
        run_dir = os.path.join(self.folder.name, name)
        return run_dir, [support.PROGRAM] + support.train_command(self.prefix, run_dir, settings)

    def start(self, words):
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def single_process(self, steps):
        run_dir, command = self.command(f"single-{steps}", steps)
        cluster.call(*command, timeout=200)
        return support.metrics(run_dir)

    def expect_losses(self, run_dir, steps, delta):
        expected, records = self.single_process(steps), support.metrics(run_dir)
        for one, other in zip(expected[1:], records[1:], strict=True):
            self.assertEqual(one["step"], other["step"])
            self.assertAlmostEqual(one["lm_loss"], other["lm_loss"], delta=delta)

    def test_three_hosts_give_the_losses_of_a_single_process(self):
        with cluster.up(cluster.HOSTS, 3) as names:
            run_dir, command = self.command("three", 10)
            cluster.call(*cluster.mpirun_on(names, slots=2), *command, timeout=200)
        self.expect_losses(run_dir, 10, 1e-5)

    def test_a_cut_of_five_seconds_is_survived(self):
        with cluster.up(cluster.HOSTS, 2) as names:
            run_dir, command = self.command("cut", 4000)
            job = self.start(cluster.mpirun_on(names) + command)
            try:
                process.wait_for(lambda: process.last_step(run_dir) > 5, 60, "five steps")
                cluster.call(cluster.HOSTS, "cut", "h2")
                time.sleep(5)
                at_the_cut = process.last_step(run_dir)
                cluster.call(cluster.HOSTS, "join", "h2")
                process.wait_for(lambda: process.last_step(run_dir) > at_the_cut + 5, 60,
                                   "steps after the cut")
                self.assertIsNone(job.poll(), "the run ended")
                job.terminate()
                output, _ = job.communicate(timeout=60)
                self.assertEqual(job.returncode, 75, output)
            finally:
                job.kill()

    def test_a_run_restarts_without_a_lost_host(self):
        with cluster.up(cluster.HOSTS, 3) as names:
            run_dir, command = self.command("lost", 300)
            job = self.start(cluster.mpirun_on(names, restarts=2) + command)
            try:
                process.wait_for(lambda: process.last_step(run_dir) > 45, 90, "45 steps")
                cluster.call(cluster.HOSTS, "kill", "h3")
                text, _ = job.communicate(timeout=200)
            finally:
                job.kill()
        self.assertEqual(job.returncode, 0, text)
        self.assertIn("host h3 cannot be reached; the restart does not use it", text)
        records = support.metrics(run_dir)
        self.assertEqual([record["step"] for record in records], list(range(301)))


if __name__ == "__main__":
    cluster.skip_unless_possible()
    unittest.main()
