#!/usr/bin/env python3
"""Ranks with one real or emulated GPU each, over NCCL, started by MPI and without it. Skipped (exit
status 77) with fewer than two GPUs."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

import command_support as support

SKIPPED = 77
RUN_AGAIN = 75
LOST_PEER = 76
HANG = 77
SETTINGS = {"steps": 4, "model.hidden": 16, "model.layers": 2, "model.sequence": 16,
            "model.ffn": 16, "data.global_batch": 4, "eval.sequences": 2,
            "schedule.decay_steps": 4, "model.precision": "FP32"}
ENDLESS = {"steps": 100000, "schedule.decay_steps": 100000, "checkpoint.every_steps": 5}


def gpus():
    """The number of GPUs; two if they are emulated."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        return listed.stdout.count("GPU ")
    except FileNotFoundError:
        return 2 if "UNIPOOL_NCCL" in os.environ else 0


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Ranks:
    """Processes started in the way of torchrun."""

    def __init__(self, command, ranks=2, environment=None):
        port = free_port()
        self.processes = []
        for rank in range(ranks):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            self.processes.append(subprocess.Popen(
                [support.PROGRAM] + [str(word) for word in command], stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
                env=dict(os.environ, **place, **(environment or {}))))

    def ended(self):
        """The exit status and the output of each rank."""
        results = []
        for process in self.processes:
            printed = process.communicate(timeout=180)
            results.append((process.returncode, printed[0] + printed[1]))
        return results


def wait_for_step(run_dir, step):
    for _ in range(1200):
        path = pathlib.Path(run_dir, "metrics.jsonl")
        if path.exists() and path.read_text().count("\n") > step:
            return
        time.sleep(0.1)
    raise AssertionError(f"{run_dir}: no record of step {step}")


class RanksTest(support.TextTest):
    def command(self, name, settings=None, device="cuda"):
        self.run_dir = os.path.join(self.folder.name, name)
        merged = dict(SETTINGS, **(settings or {}))
        return support.train_command(self.prefix, self.run_dir, merged) + ["--device", device]

    def losses(self, command, ranks=0, environment=None):
        done = support.run(command, ranks, environment=environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [r["lm_loss"] for r in support.metrics(self.run_dir)[1:]], done.stderr

    def expect_close(self, some, others):
        self.assertEqual(len(some), len(others))
        for one, other in zip(some, others):
            self.assertAlmostEqual(one, other, delta=1e-5 * one)

    def test_ranks_started_in_either_way_have_the_losses_of_one_rank(self):
        alone, _ = self.losses(self.command("alone"))
        by_mpi, printed = self.losses(self.command("by_mpi"), ranks=2)
        self.assertNotIn("NCCL is not used", printed)
        self.expect_close(alone, by_mpi)
        for rank, (status, printed) in enumerate(Ranks(self.command("without_mpi")).ended()):
            self.assertEqual(status, 0, printed)
            self.assertEqual(printed.count("2 ranks"), 1 if rank == 0 else 0)
        self.expect_close(alone, [r["lm_loss"] for r in support.metrics(self.run_dir)[1:]])

    def test_without_the_library_exchanges_use_mpi_and_a_line_reports_it(self):
        missing = {"UNIPOOL_NCCL": "/nonexistent"}
        alone, _ = self.losses(self.command("one"))
        staged, printed = self.losses(self.command("staged"), 2, missing)
        self.expect_close(alone, staged)
        self.assertEqual(printed.count("NCCL is not used, so exchanges go through host memory"), 1)
        results = Ranks(self.command("refused"), environment=missing).ended()
        self.assertEqual([status for status, _ in results], [2, 2])
        self.assertRegex(results[0][1], r"^unipool: ranks started without MPI need NCCL: .*\n$")
        self.assertEqual(results[1][1], "")

    def test_a_lost_rank_is_named_and_the_run_resumes_from_its_checkpoint(self):
        ranks = Ranks(self.command("lost", ENDLESS))
        wait_for_step(self.run_dir, 12)
        ranks.processes[1].send_signal(signal.SIGKILL)
        status, printed = ranks.ended()[0]
        self.assertEqual(status, LOST_PEER, printed)
        self.assertRegex(printed,
                         r"unipool: rank 0 on \S+ (cuda:0 )?lost (rank 1|another rank) in ")
        again = Ranks(self.command("lost", dict(ENDLESS)) + ["--stop-after", 20])
        for status, printed in again.ended():
            self.assertEqual(status, 0, printed)
        steps = [record["step"] for record in support.metrics(self.run_dir)]
        self.assertEqual(steps, list(range(21)))

    def test_a_signal_to_one_rank_saves_and_ends_all(self):
        ranks = Ranks(self.command("asked", ENDLESS))
        wait_for_step(self.run_dir, 3)
        ranks.processes[1].send_signal(signal.SIGTERM)
        for status, printed in ranks.ended():
            self.assertEqual(status, RUN_AGAIN, printed)
        last = support.metrics(self.run_dir)[-1]["step"]
        self.assertEqual(support.latest_checkpoint(self.run_dir).name, f"step_{last:08d}")

    def test_waiting_for_a_missing_rank_times_out(self):
        command = self.command("late", {"parallel.deadline_seconds": 3})
        ranks = Ranks(command, ranks=3)
        ranks.processes[2].kill()
        results = ranks.ended()[:2]
        self.assertTrue(all(status in (LOST_PEER, HANG) for status, _ in results), results)
        self.assertRegex(results[0][1], re.compile(r"^unipool: rank 0 .*rank 2", re.MULTILINE))

    def test_a_rank_that_is_stopped_ends_the_run_as_hung(self):
        ranks = Ranks(self.command("stopped", dict(ENDLESS, **{"parallel.deadline_seconds": 3})))
        wait_for_step(self.run_dir, 3)
        ranks.processes[1].send_signal(signal.SIGSTOP)
        process = ranks.processes[0]
        printed = process.communicate(timeout=120)[1]
        ranks.processes[1].kill()
        ranks.processes[1].communicate()
        self.assertEqual(process.returncode, HANG, printed)
        self.assertRegex(printed, r"no progress for 3s .*:\n  rank 0 on \S+ has waited 3\.")
        self.assertRegex(printed, r"rank 1 on \S+ does not respond")


if __name__ == "__main__":
    if gpus() < 2:
        print("skipped: needs two GPUs")
        sys.exit(SKIPPED)
    unittest.main()
