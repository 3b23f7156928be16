#!/usr/bin/env python3
"""A run that gets a signal saves once and exits with status 75, whichever rank gets which signal
and when. A second SIGINT ends it at once."""
import os
import pathlib
import resource
import signal
import time
import unittest

import command_support as support
import process_support as processes

RUN_AGAIN = 75


def long_steps(sequences):
    """Settings with `sequences` sequences per step, which take long on any machine."""
    return {"data.global_batch": sequences, "data.micro_batch": 12, "eval.sequences": 1}


class SignalsTest(support.TextTest):
    def start(self, name, ranks=0, settings=None, flags=(), prefix=None, **more):
        run_dir = os.path.join(self.folder.name, name)
        merged = {**processes.LONG, **(settings or {})}
        command = support.train_command(prefix or self.prefix, run_dir, merged)
        job = processes.Job(command + list(flags), ranks, **more)
        self.addCleanup(job.process.stdout.close)
        self.addCleanup(job.process.stderr.close)
        self.addCleanup(job.kill)
        return job, run_dir

    def await_step(self, run_dir, step):
        processes.wait_for(lambda: processes.last_step(run_dir) >= step, 60, f"step {step}")

    def expect_saved(self, job, run_dir):
        status, output, errors = job.finish()
        self.assertEqual(status, RUN_AGAIN, output + errors)
        step = max(0, processes.last_step(run_dir))
        self.assertEqual(processes.checkpoints(run_dir), [f"step_{step:08d}"], errors)
        self.assertEqual(errors.count("stopped after step"), 1, errors)
        self.assertRegex(errors, rf"stopped after step {step} "
                                 r"\((SIG\w+|time limit)( on rank \d)?\); saved ")
        return errors

    def test_each_signal_to_a_single_process(self):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
                       signal.SIGXCPU):
            with self.subTest(number.name):
                job, run_dir = self.start(f"alone-{number.name}")
                self.await_step(run_dir, 3)
                job.signal(number)
                self.assertIn(number.name, self.expect_saved(job, run_dir))

    def test_each_signal_to_the_launcher(self):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
                       signal.SIGXCPU):
            with self.subTest(number.name):
                job, run_dir = self.start(f"launcher-{number.name}", 2)
                self.await_step(run_dir, 3)
                job.signal(number)
                errors = self.expect_saved(job, run_dir)
                self.assertNotIn("----", errors)  # mpirun's paragraphs
                name = "interrupted" if number == signal.SIGINT else f"{number.name} received"
                self.assertIn(f"mpirun.sh: {name}; all ranks save a checkpoint", errors)

    def test_a_signal_to_any_rank_stops_all(self):
        for rank in range(3):
            for number in (signal.SIGUSR1, signal.SIGTERM):
                with self.subTest(rank=rank, number=number.name):
                    job, run_dir = self.start(f"rank-{rank}-{number.name}", 3)
                    self.await_step(run_dir, 2)
                    job.signal_rank(rank, number)
                    where = f" on rank {rank}" if rank else ""
                    self.assertIn(f"({number.name}{where}); saved", self.expect_saved(job, run_dir))

    def test_sigquit_makes_every_rank_say_what_it_does(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                job, run_dir = self.start(f"quit-{ranks}", ranks, long_steps(400))
                self.await_step(run_dir, 1)
                time.sleep(0.3)
                step = processes.last_step(run_dir)
                job.signal(signal.SIGQUIT)
                time.sleep(1)
                self.await_step(run_dir, step + 2)  # the run continues
                job.signal(signal.SIGTERM)
                errors = self.expect_saved(job, run_dir)
                for rank in range(max(1, ranks)):
                    self.assertRegex(errors, rf"rank {rank} on \S+ (waits for no rank|has waited)")
                self.assertRegex(errors, r"step \d+, ")

    def test_sighup_that_nohup_ignores_stays_ignored(self):
        job, run_dir = self.start("nohup", preexec_fn=lambda: signal.signal(signal.SIGHUP,
                                                                            signal.SIG_IGN))
        self.await_step(run_dir, 3)
        job.signal(signal.SIGHUP)
        self.await_step(run_dir, processes.last_step(run_dir) + 3)
        job.signal(signal.SIGTERM)
        self.assertIn("SIGTERM", self.expect_saved(job, run_dir))

    def test_a_limit_of_cpu_time_saves(self):
        job, run_dir = self.start("cpu", preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CPU, (2, 30)))
        self.assertIn("SIGXCPU", self.expect_saved(job, run_dir))

    def test_a_run_continues_without_a_reader_of_its_progress(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                job, run_dir = self.start(f"head-{ranks}", ranks,
                                          {"steps": 300, "model.ffn_kind": "DENSE"})
                job.process.stdout.close()
                _, errors = job.process.communicate(timeout=60)
                self.assertEqual((job.process.returncode, errors), (0, ""))
                self.assertEqual(processes.checkpoints(run_dir), ["step_00000300"])

    def test_a_file_that_may_not_grow_is_an_error(self):
        run_dir = os.path.join(self.folder.name, "small-files")
        command = support.train_command(self.prefix, run_dir, {"eval.every_steps": 0})
        limit = ["prlimit", f"--fsize={40 << 10}", support.PROGRAM, *map(str, command)]
        done = processes.subprocess.run(limit, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)  # not 3, which means divergence
        self.assertIn("File too large; raise the limit on the size of files", done.stderr)

    def test_a_clock_that_is_set_back_stops_neither_progress_nor_the_time_limit(self):
        mark = pathlib.Path(self.folder.name, "set-back")
        shim = os.environ.get("UNIPOOL_SET_BACK_CLOCK", str(
            support.ROOT / "build" / "tests" / "libset_back_clock.so"))
        job, run_dir = self.start("clock", flags=["--time-limit", "14s"], environment={
            "LD_PRELOAD": shim, "UNIPOOL_SET_BACK": str(mark)})
        self.await_step(run_dir, 3)
        mark.touch()
        status, output, errors = job.finish(40)
        self.assertEqual(status, RUN_AGAIN, output + errors)
        self.assertIn("(time limit", errors)
        lines = [line for line in output.splitlines() if line.startswith("step ")]
        self.assertGreater(len(lines), 2, output)  # the first step, and one after ten seconds

    def test_at_start_up(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                job, run_dir = self.start(f"start-{ranks}", ranks, long_steps(6000))
                processes.wait_for(lambda: job.pid_of(0), 30, "rank 0 is there")
                job.signal(signal.SIGTERM)
                status, output, errors = job.finish()
                self.assertEqual(status, RUN_AGAIN, output + errors)
                self.assertLessEqual(processes.last_step(run_dir), 0)

    def test_in_a_validation(self):
        # The validation takes many seconds.
        prefix = support.write_text(pathlib.Path(self.folder.name, "long"), documents=4000)
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                settings = {"eval.sequences": 0, "data.split": "1,98,1", "data.micro_batch": 1}
                job, run_dir = self.start(f"validation-{ranks}", ranks, settings, prefix=prefix)
                metrics = os.path.join(run_dir, "metrics.jsonl")
                processes.wait_for(lambda: os.path.exists(metrics), 60, "the run folder")
                job.signal(signal.SIGUSR1)
                self.expect_saved(job, run_dir)
                self.assertEqual(processes.last_step(run_dir), -1)  # it was cut short

    def test_in_a_save_and_then_on_to_what_an_undisturbed_run_leaves(self):
        settings = {"steps": 24, "checkpoint.every_steps": 1}
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                whole, whole_dir = self.start(f"save-whole-{ranks}", ranks, settings)
                self.assertEqual(whole.finish()[0], 0)
                job, run_dir = self.start(f"save-{ranks}", ranks, settings,
                                          environment=processes.SLOW_DISK)
                saving = pathlib.Path(run_dir, "checkpoints")
                processes.wait_for(lambda: list(saving.glob("*.tmp")), 60, "a save")
                job.signal(signal.SIGTERM)
                status, output, errors = job.finish()
                self.assertEqual(status, RUN_AGAIN, output + errors)
                self.assertEqual(list(saving.glob("*.tmp")), [])
                again, _ = self.start(f"save-{ranks}", ranks, settings)
                status, output, errors = again.finish()
                self.assertEqual(status, 0, output + errors)
                self.assertIn("resumed after step", output)
                support.expect_same(self, whole_dir, run_dir)

    def test_a_second_interrupt_exits_at_once(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                job, run_dir = self.start(f"twice-{ranks}", ranks, long_steps(300000))
                self.await_step(run_dir, 0)
                job.signal(signal.SIGINT)
                processes.time.sleep(0.3)
                job.signal(signal.SIGINT)
                status, output, errors = job.finish(20)
                self.assertEqual(status, 130, output + errors)
                self.assertEqual(processes.checkpoints(run_dir), [])

    def test_a_time_limit(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                job, run_dir = self.start(f"limit-{ranks}", ranks, flags=["--time-limit", "4s"])
                begin = processes.time.monotonic()
                self.assertIn("(time limit", self.expect_saved(job, run_dir))
                self.assertLess(processes.time.monotonic() - begin, 15)
                self.assertGreater(processes.last_step(run_dir), 0)

    def test_a_time_limit_before_the_first_step_is_bad_input(self):
        run_dir = os.path.join(self.folder.name, "no-step")
        settings = dict(processes.LONG, **{"eval.every_steps": 1, "eval.sequences": 0})
        done = support.run(support.train_command(self.prefix, run_dir, settings) +
                           ["--time-limit", "1ms"])
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("the time limit is reached before the first step", done.stderr)

    def test_a_time_limit_is_checked(self):
        for text in ("soon", "0s", "-5m", "1:99:00", "1-2"):
            done = support.run(["train", "--time-limit", text])
            self.assertEqual(done.returncode, 2, text)
            self.assertIn(f"--time-limit {text} is not a time above 0", done.stderr)


if __name__ == "__main__":
    unittest.main()
