#!/usr/bin/env python3
"""Runs that are stopped and resumed leave the same run folder as a run that was never stopped; a
damaged checkpoint is named and skipped; a changed config is refused."""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import unittest

import command_support as support
import process_support as processes

SETTINGS = {"steps": 8, "eval.every_steps": 3, "data.micro_batch": 2}
NEW_RUN = "start a new run with another --run-dir, or with --force to replace this one"
SMALL_FILES = 30000  # bytes: metrics and configs fit, tensors do not


def fill_disk():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES))


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
                self.assertIn("resumed after step 5 of 8", done.stdout)
                self.expect_same(whole, stopped)

    def test_a_finished_run_has_nothing_left_to_do(self):
        self.train("finished")
        before = pathlib.Path(self.path("finished"), "metrics.jsonl").read_bytes()
        self.train("finished")
        self.assertEqual(pathlib.Path(self.path("finished"), "metrics.jsonl").read_bytes(), before)

    def test_the_summary_reports_the_cost_of_saves(self):
        done = self.train("saves", settings={"checkpoint.every_steps": 3})
        found = re.search(r"3 saved, 0 failed, \S+ GB at \S+ GB/s; saving paused training for "
                          r"(\S+) s \((\S+) % of the time between saves\); the final save took "
                          r"(\S+) s",
                          done.stdout)
        self.assertTrue(found, done.stdout)
        stalled, share, final = (float(number) for number in found.groups())
        recorded = sum(record.get("checkpoint_stall_seconds", 0)
                       for record in support.metrics(self.path("saves")))
        self.assertGreater(recorded, 0)
        self.assertGreaterEqual(stalled + 0.005, recorded)  # the text is rounded
        self.assertTrue(share > 0 and final > 0, found.group())
        done = self.train("saves-once", settings={"checkpoint.every_steps": 0})
        self.assertRegex(done.stdout,
                         r"1 saved, 0 failed, \S+ GB at \S+ GB/s; the final save took \S+ s")

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
        self.assertIn("resumed after step 3 of 8", done.stdout)
        refused = self.train("hopeless", code=2)
        self.assertIn("all 2 checkpoints are damaged", refused.stderr)

    def test_more_steps_keep_the_rates_of_those_behind(self):
        self.train("short")
        done = self.train("short", settings={"steps": 10})
        self.assertEqual(done.stderr.count("schedule.decay_steps stays 8 as in the checkpoint"), 1)
        records = support.metrics(self.path("short"))
        self.assertEqual(records[-1]["step"], 10)
        self.assertEqual(records[-1]["lr"], 1e-3)

    def test_a_given_decay_is_refused_unless_it_is_the_checkpoints_or_that_of_all_steps(self):
        self.train("decay")
        printed = self.train("decay", settings={"steps": 12, "schedule.decay_steps": 9}, code=2)
        self.assertIn("schedule.decay_steps = 9 (the checkpoint has 8)", printed.stderr)
        done = self.train("decay", settings={"steps": 9, "schedule.decay_steps": 8})
        self.assertNotIn("decay_steps", done.stderr)
        done = self.train("decay", settings={"steps": 10, "schedule.decay_steps": 10})
        self.assertIn("schedule.decay_steps stays 8 as in the checkpoint", done.stderr)
        self.assertEqual(support.metrics(self.path("decay"))[-1]["lr"], 1e-3)

    def test_fewer_steps_than_are_trained_are_refused(self):
        self.train("fewer", "--stop-after", "4")
        refused = self.train("fewer", settings={"steps": 3}, code=2)
        self.assertRegex(refused.stderr, r"^unipool: \S+/step_00000004: resume refused: steps: "
                                         r"found 3, but the checkpoint is of step 4; set it to at "
                                         rf"least 4, or {re.escape(NEW_RUN)}\n$")

    def test_stop_after_says_how_to_go_on(self):
        done = self.train("reported", "--stop-after", "4")
        self.assertIn("after step 4 of 8; run the same command without --stop-after to resume",
                      done.stdout)

    def test_loads_are_traced_at_each_validation(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.train(f"loads-{ranks}", ranks=ranks)
                folder = pathlib.Path(self.path(f"loads-{ranks}"), "loads")
                self.assertEqual(sorted(os.listdir(folder)),
                                 [f"step_{step:08d}.json" for step in (3, 6, 8)])
                trace = json.loads((folder / "step_00000006.json").read_text())
                self.assertEqual((trace["version"], trace["step"]), (2, 6))
                self.assertEqual([layer["pool"] for layer in trace["layers"]], [0, 0, 0])
                routed = sum(sum(layer["tokens"]) for layer in trace["layers"])
                unrouted = sum(layer["unrouted_choices"] for layer in trace["layers"])
                self.assertEqual(routed + unrouted, 3 * 12 * 32)
                self.assertEqual(unrouted, trace["unrouted"])
                self.assertTrue(all(len(layer["tokens"]) == 7 for layer in trace["layers"]))

    def test_changes_are_refused_field_by_field(self):
        self.train("changed", "--stop-after", "2")
        before = pathlib.Path(self.path("changed"), "metrics.jsonl").read_bytes()
        changes = {"model.layers": 2, "optimizer.beta2": 0.5}
        refused = self.train("changed", settings=changes, code=2)
        self.assertIn("model.layers = 2 (the checkpoint has 3)", refused.stderr)
        self.assertIn("optimizer.beta2 = 0.5 (the checkpoint has 0.999)", refused.stderr)
        self.assertEqual(pathlib.Path(self.path("changed"), "metrics.jsonl").read_bytes(), before)
        self.assertIn(NEW_RUN, refused.stderr)
        self.train("changed", "--force", settings=changes)

    def test_other_data_under_the_same_name_are_refused(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                name = f"other-data-{ranks}"
                prefix = support.write_text(tempfile.mkdtemp(dir=self.folder.name))
                command = support.train_command(prefix, self.path(name), SETTINGS)
                stopped = support.run(command + ["--stop-after", "2"], ranks)
                self.assertEqual(stopped.returncode, 0, stopped.stderr)
                before = pathlib.Path(self.path(name), "metrics.jsonl").read_bytes()
                for suffix in (".bin", ".idx"):
                    os.remove(prefix + suffix)
                support.write_text(os.path.dirname(prefix), documents=61)
                refused = support.run(command, ranks)
                self.assertEqual(refused.returncode, 2, refused.stderr)
                lines = [line for line in refused.stderr.splitlines() if "unipool:" in line]
                self.assertEqual(len(lines), 1, refused.stderr)
                self.assertRegex(lines[0], r"step_00000002: resume refused: other data: "
                                 rf"{prefix}.idx: found 61 documents, \d+ tokens, .*; the "
                                 rf"checkpoint has 60 documents.*, or {re.escape(NEW_RUN)}")
                self.assertEqual(pathlib.Path(self.path(name), "metrics.jsonl").read_bytes(),
                                 before)

    def test_a_layout_that_changes_local_statistics_is_a_warning(self):
        local = {"pool.statistics": "LOCAL", "data.micro_batch": 4}
        self.train("local", "--stop-after", "2", settings=local)
        same = self.train("local", "--stop-after", "3", settings=local)
        self.assertNotIn("statistics LOCAL", same.stderr)
        other = self.train("local", settings=dict(local, **{"data.micro_batch": 2}))
        self.assertEqual(other.stderr.count("statistics LOCAL"), 1, other.stderr)

    def fill_the_disk(self, name, settings):
        """The output of a run that resumes after step 3 on a full disk."""
        self.train(name, "--stop-after", "3", settings=settings)
        command = support.train_command(self.prefix, self.path(name), dict(SETTINGS, **settings))
        done = subprocess.run([support.PROGRAM, *map(str, command)], capture_output=True, text=True,
                              timeout=120, preexec_fn=fill_disk, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        errors = [line for line in done.stderr.splitlines() if line.startswith("unipool:")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertEqual(support.metrics(self.path(name))[-1]["step"], 9)
        checkpoints = pathlib.Path(self.path(name), "checkpoints")
        self.assertEqual(sorted(os.listdir(checkpoints)),
                         ["latest", "step_00000002", "step_00000003"])
        return done.stderr

    def test_a_full_disk_is_a_warning_and_keeps_the_last_checkpoint(self):
        failed = (r"the checkpoint of step 4 FAILED: rank 0: /\S*step_00000004.tmp/\S*safetensors: "
                  r".*; training continues, the next try is after step \d")
        for asynchronous in ("true", "false"):
            settings = {"checkpoint.every_steps": 2, "steps": 9,
                        "checkpoint.asynchronous": asynchronous}
            whole, full = "whole-disk-" + asynchronous, "full-disk-" + asynchronous
            self.train(whole, settings=settings)
            self.assertRegex(self.fill_the_disk(full, settings), failed)
            self.assertIn("resumed after step 3", self.train(full, settings=settings).stdout)
            self.expect_same(whole, full)

    def test_a_folder_that_cannot_be_written_is_a_warning_and_training_continues(self):
        settings = dict(processes.LONG, **{"checkpoint.every_steps": 5, "checkpoint.keep_last": 0})
        run_dir = self.path("unwritable")
        job = processes.Job(support.train_command(self.prefix, run_dir, settings))
        for cleanup in (job.process.stdout.close, job.process.stderr.close, job.kill):
            self.addCleanup(cleanup)
        folder, away = pathlib.Path(run_dir, "checkpoints"), pathlib.Path(run_dir, "away")
        processes.wait_for(lambda: (folder / "latest").exists(), 60, "a checkpoint")
        folder.rename(away)
        folder.write_text("a file in its place")
        saved = processes.finished_in(away)
        step = processes.last_step(run_dir)
        processes.wait_for(lambda: processes.last_step(run_dir) > step + 30, 60, "more steps")
        (away / "step_00000001.tmp").mkdir()  # left by a save that failed
        processes.exchange(away, folder)
        processes.wait_for(lambda: processes.finished_in(folder) > saved, 60, "a save")
        job.signal(signal.SIGTERM)
        status, _, errors = job.finish()
        self.assertEqual(status, 75, errors)
        self.assertRegex(errors, r"the checkpoint of step \d+ FAILED: .*/checkpoints.*; training "
                                 "continues, the next try is after step")
        self.assertLessEqual(saved, processes.finished_in(folder))
        self.assertEqual(sorted(folder.glob("*.tmp")), [])
        for path in sorted(folder.glob("step_*")):
            self.assertEqual(support.run(["checkpoint", "verify", path]).returncode, 0, path)

    def test_a_second_run_in_the_folder_is_refused(self):
        run_dir = self.path("shared")
        job = processes.Job(support.train_command(self.prefix, run_dir, processes.LONG))
        for cleanup in (job.process.stdout.close, job.process.stderr.close, job.kill):
            self.addCleanup(cleanup)
        processes.wait_for(lambda: processes.last_step(run_dir) > 5, 60, "steps")
        for flags in ([], ["--force"]):
            refused = support.run(support.train_command(self.prefix, run_dir,
                                                        processes.LONG) + flags)
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertRegex(refused.stderr,
                             rf"shared is in use by process {job.process.pid} on \S+; wait for it")
        job.signal(signal.SIGTERM)
        status, _, errors = job.finish()
        self.assertEqual(status, 75, errors)
        self.assertFalse(pathlib.Path(run_dir, ".lock").exists())
        again = support.run(support.train_command(self.prefix, run_dir, processes.LONG) +
                            ["--time-limit", "2s"])
        self.assertIn("resumed after step", again.stdout)

    def test_a_save_under_way_is_finished_when_the_run_diverges(self):
        settings = {"steps": 9, "checkpoint.every_steps": 2, "schedule.lr": 1e38,
                    "schedule.min_lr": 1e37, "schedule.warmup_steps": 2}
        run_dir = self.path("diverged")
        done = support.run(support.train_command(self.prefix, run_dir, settings))
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(processes.checkpoints(run_dir), ["step_00000002"])

    def test_a_run_without_a_checkpoint_begins_again_and_keeps_its_records(self):
        run_dir = pathlib.Path(self.path("killed-early"))
        run_dir.mkdir()
        (run_dir / "metrics.jsonl").write_text('{"step": 1}\n')
        done = self.train("killed-early")
        self.assertIn("metrics.jsonl.old", done.stderr)
        self.assertEqual((run_dir / "metrics.jsonl.old").read_text(), '{"step": 1}\n')
        self.assertEqual(len(support.metrics(run_dir)), 9)


if __name__ == "__main__":
    unittest.main()
