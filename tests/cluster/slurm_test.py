#!/usr/bin/env python3
"""Runs launch/slurm/train.sbatch under a real Slurm on three hosts. A job that receives SIGUSR1
saves, is requeued, and resumes to the same losses as an undisturbed run. After scancel a job saves
and is not requeued. Every task of an array has a run folder of its own."""
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import unittest

import cluster_support as cluster
import command_support as support
import process_support as process

SCRIPT = str(support.ROOT / "launch" / "slurm" / "train.sbatch")


def scheduler(*words):
    return cluster.call(cluster.SLURM, "run", *words)


def job_field(job, name):
    return re.search(rf"\b{name}=(\S+)", scheduler("scontrol", "show", "job", job)).group(1)


class SlurmTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = support.write_text(cls.folder.name)
        cls.cluster = contextlib.ExitStack()
        cls.cluster.enter_context(cluster.up(cluster.HOSTS, 3))
        cls.cluster.enter_context(cluster.up(cluster.SLURM, 3))

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()
        cls.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def submit(self, name, steps, options=(), run_dir=True):
        command = support.train_command(self.prefix, self.path(name),
                                        {"steps": steps, "eval.every_steps": 0,
                                         "schedule.warmup_steps": 2})
        if not run_dir:
            command = [command[0]] + command[3:]
        exports = {"UNIPOOL_HOME": str(support.ROOT), "UNIPOOL_PROGRAM": support.PROGRAM,
                   "PATH": os.environ["PATH"], "OMPI_MCA_btl_tcp_if_include": cluster.NETWORK,
                   "OMPI_MCA_oob_tcp_if_include": cluster.NETWORK}
        out = scheduler("env", *(f"{key}={value}" for key, value in exports.items()),
                        "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1",
                        "--cpus-per-task=1",
                        f"--output={self.path(name)}-%a.log", "--chdir", self.folder.name,
                        "--time=10", *options, SCRIPT, *command[1:])
        return out.strip()

    def log(self, name, task="4294967294"):
        with open(f"{self.path(name)}-{task}.log") as file:
            return file.read()

    def wait_for(self, job, state, seconds, name):
        process.wait_for(lambda: job_field(job, "JobState") == state, seconds,
                           f"job {job} {state}; its log: {self.log(name)}")

    def test_a_job_with_sigusr1_is_requeued_and_resumes(self):
        steps = 3000  # some seconds, so that the signal arrives before the end
        job = self.submit("requeued", steps)
        process.wait_for(lambda: process.last_step(self.path("requeued")) > 10, 90, "10 steps")
        scheduler("scancel", "--signal=USR1", "--batch", job)
        process.wait_for(lambda: job_field(job, "Restarts") == "1", 60, "the job is requeued")
        self.wait_for(job, "COMPLETED", 180, "requeued")
        log = self.log("requeued")
        self.assertIn(f"the run has saved; requeueing job {job}", log)
        self.assertIn("start 2, 2 ranks", log)
        undisturbed = support.train_command(self.prefix, self.path("undisturbed"),
                                            {"steps": steps, "eval.every_steps": 0,
                                             "schedule.warmup_steps": 2})
        self.assertEqual(support.run(undisturbed, ranks=2).returncode, 0)
        losses = [[record.get("lm_loss") for record in support.metrics(self.path(name))]
                  for name in ("requeued", "undisturbed")]
        self.assertEqual(losses[0], losses[1])

    def test_scancel_saves_and_does_not_requeue(self):
        job = self.submit("cancelled", 100000)
        process.wait_for(lambda: process.last_step(self.path("cancelled")) > 5, 60, "5 steps")
        scheduler("scancel", "--signal=TERM", "--batch", job)
        process.wait_for(lambda: job_field(job, "JobState") in ("FAILED", "CANCELLED"), 60,
                           "the job ends")
        self.assertEqual(job_field(job, "ExitCode"), "75:0")
        self.assertTrue(support.latest_checkpoint(self.path("cancelled")).is_dir())

    def test_a_killed_rank_of_srun_with_pmix_is_noticed_at_once(self):
        run_dir = self.path("killed")
        command = support.train_command(self.prefix, run_dir, process.LONG)
        words = ["env", f"OMPI_MCA_btl_tcp_if_include={cluster.NETWORK}", "srun", "--mpi=pmix",
                 "-N2", "--ntasks-per-node=1", "--chdir", self.folder.name, support.PROGRAM,
                 *command]
        job = subprocess.Popen([cluster.SLURM, "run", *words], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
        self.addCleanup(job.kill)
        process.wait_for(lambda: process.last_step(run_dir) > 5, 60, "5 steps")
        ranks = [pid for pid in map(int, cluster.call("pgrep", "-f", run_dir).split())
                 if process.environment_of(pid).get("PMIX_RANK") == "1"
                 and os.readlink(f"/proc/{pid}/exe") == os.path.realpath(support.PROGRAM)]
        os.kill(ranks[0], signal.SIGKILL)
        _, errors = job.communicate(timeout=15)
        self.assertEqual(job.returncode, 76, errors)
        self.assertRegex(errors, r"unipool: rank 0 on h1 lost rank 1 in .*step \d+")

    def test_srun_without_pmix_is_refused_in_one_line(self):
        command = support.train_command(self.prefix, self.path("lone"), {"steps": 5})
        words = ["srun", "--mpi=none", "-N2", "--ntasks-per-node=1", "--chdir", self.folder.name,
                 support.PROGRAM, *command]
        done = subprocess.run([cluster.SLURM, "run", *words], capture_output=True, text=True,
                              timeout=90, check=False)
        self.assertNotEqual(done.returncode, 0)
        lines = [line for line in done.stderr.splitlines() if line.startswith("unipool: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn("srun started 2 tasks without MPI", lines[0])
        self.assertIn("--mpi=pmix", lines[0])
        self.assertFalse(os.path.exists(self.path("lone")))

    def test_tasks_of_an_array_do_not_share_a_folder(self):
        runs = support.ROOT / "runs"
        job = self.submit("array", 5, ["--array=1-2", "--job-name=unipool_array_test"],
                          run_dir=False)
        process.wait_for(lambda: all(job_field(f"{job}_{task}", "JobState") == "COMPLETED"
                                       for task in (1, 2)), 120, "both tasks done")
        for task in (1, 2):
            folder = runs / f"unipool_array_test-{job}" / str(task)
            self.assertEqual(process.last_step(folder), 5, self.log("array", task))
        cluster.call("rm", "-r", runs / f"unipool_array_test-{job}")


if __name__ == "__main__":
    cluster.skip_unless_possible("slurmctld", "slurmd", "munged", "sbatch")
    unittest.main()
