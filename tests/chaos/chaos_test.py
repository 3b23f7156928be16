#!/usr/bin/env python3
"""Kills a random rank with SIGKILL at a random moment and resumes the run, several times. The final
checkpoint and the losses equal those of an undisturbed run bit for bit.
usage: chaos_test.py [KILLS, default 5]     UNIPOOL_CHAOS_SEED repeats a sequence of kills"""
import collections
import os
import pathlib
import random
import re
import signal
import sys
import time
import unittest

import command_support as support
import process_support as process

KILLS = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 5
RANKS = 3
EVAL_EVERY = 10
PHASES = ["start-up", "training", "validation", "save", "any"]
LOST_PEER = 76  # launch/world/exit_codes.h


def settings(steps):
    # A validation takes as long as about twelve steps, and saves follow each other closely.
    return {"steps": steps, "eval.every_steps": EVAL_EVERY, "eval.sequences": 0,
            "data.split": "20,75,5", "checkpoint.every_steps": 4, "checkpoint.keep_last": 2,
            "parallel.threads": 1, "pool.statistics": "LOCAL", "data.micro_batch": 2}


class Phase:
    """Waits for a phase of a run, and determines afterwards in which phases the run was."""

    def __init__(self, run_dir, generator):
        self.run_dir = run_dir
        self.generator = generator
        self.saving = pathlib.Path(run_dir, "checkpoints")

    def half_written(self):
        return self.saving.exists() and any(p.suffix == ".tmp" for p in self.saving.iterdir())

    def wait(self, name, job, last_step):
        until = time.monotonic() + 60
        delay = self.generator.random()
        while time.monotonic() < until and job.process.poll() is None:
            step = process.last_step(self.run_dir)
            if name == "start-up" and job.pid_of(0):
                time.sleep(delay * 0.3)
                return
            if name == "training" and step > last_step + 1:
                time.sleep(delay * 0.2)
                return
            if name == "validation" and step > last_step and step % EVAL_EVERY == EVAL_EVERY - 1:
                # The moment is after the next step, and before the end of the validation.
                time.sleep((1.2 + 2 * delay) * support.metrics(self.run_dir)[-1]["step_seconds"])
                return
            if name == "save" and step > last_step and self.half_written():
                return
            if name == "any" and job.pid_of(0):
                time.sleep(delay * 2)
                return
            time.sleep(0.002)

    def current(self, last_step):
        """The phases of this moment; a save overlaps with another phase."""
        step = process.last_step(self.run_dir)
        if step <= last_step:
            return ["start-up"]
        phase = "validation" if step % EVAL_EVERY == EVAL_EVERY - 1 else "training"
        return [phase] + ["save"] * self.half_written()


def final_state(run_dir):
    """The hashes of the last checkpoint's files, and the losses of every step."""
    manifest = (support.latest_checkpoint(run_dir) / "manifest.textproto").read_text()
    losses = [(record["step"], record.get("lm_loss"), record.get("grad_norm"),
               record.get("validation_loss")) for record in support.metrics(run_dir)]
    return re.findall(r'name: "(\S+)"\s+bytes: (\d+)\s+xxh3_128: "(\w+)"', manifest), losses


class ChaosTest(support.TextTest):
    def job(self, name, steps, environment=None):
        run_dir = os.path.join(self.folder.name, name)
        return run_dir, process.Job(
            support.train_command(self.prefix, run_dir, settings(steps)), RANKS,
            environment=environment)

    def targets(self, hit):
        """Yields (number of the kill, phase): KILLS kills over all phases in turn, then at most ten
        more for phases that no kill has hit yet."""
        for kill in range(KILLS):
            yield kill, PHASES[kill % len(PHASES)]
        for kill in range(KILLS, KILLS + 10):
            missed = [name for name in PHASES[:-1] if hit[name] == 0]
            if not missed:
                return
            yield kill, missed[0]

    def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(self):
        seed = int(os.environ.get("UNIPOOL_CHAOS_SEED", time.time_ns() % 1000000))
        generator = random.Random(seed)
        steps = 200 + 12 * KILLS
        calm_dir, calm = self.job("calm", steps)
        self.assertEqual(calm.finish(300)[0], 0)
        hit = collections.Counter()
        for kill, name in self.targets(hit):
            run_dir, job = self.job("chaos", steps, process.SLOW_DISK)
            last_step = process.last_step(run_dir)
            phase = Phase(run_dir, generator)
            # The process is looked up before the phase starts, because that takes a while.
            rank = generator.randrange(RANKS)
            victim = process.wait_for(lambda: job.pid_of(rank) or job.process.poll() is not None,
                                      60, f"process of rank {rank}")
            phase.wait(name, job, last_step)
            victim = victim if victim is not True and process.is_alive(victim) else 0
            if victim:
                os.kill(victim, signal.SIGKILL)
                hit.update(phase.current(last_step))
            status, output, errors = job.finish(120)
            self.assertIn(status, (LOST_PEER,) if victim else (0, LOST_PEER),
                          f"seed {seed}, kill {kill}: {output}{errors}")
        run_dir, job = self.job("chaos", steps)
        status, output, errors = job.finish(300)
        self.assertEqual(status, 0, f"seed {seed}: {output}{errors}")
        print(f"seed {seed}, kills by phase: {dict(hit)}")
        self.assertEqual(final_state(run_dir), final_state(calm_dir), f"seed {seed}")
        for name in PHASES[:-1]:
            self.assertGreater(hit[name], 0, f"seed {seed}: no kill hit {name}: {dict(hit)}")


if __name__ == "__main__":
    unittest.main()
