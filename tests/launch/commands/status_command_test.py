#!/usr/bin/env python3
"""events.jsonl tells the history of a run, and `unipool status` what it does now: running,
finished, stopped, killed or failed."""
import json
import os
import pathlib
import signal
import unittest

import command_support as support
import process_support as processes

ENDLESS = {"steps": 100000, "checkpoint.every_steps": 20, "checkpoint.keep_last": 1}


class StatusTest(support.TextTest):
    def run_dir(self, name):
        return os.path.join(self.folder.name, name)

    def status(self, *run_dirs):
        done = support.run(["status", "--json", *run_dirs])
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def events(self, run_dir):
        text = pathlib.Path(run_dir, "events.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def start(self, name, settings=None, ranks=0):
        command = support.train_command(self.prefix, self.run_dir(name),
                                        dict(ENDLESS, **(settings or {})))
        job = processes.Job(command, ranks)
        self.addCleanup(job.kill)
        return job

    def test_a_finished_run_and_its_extension(self):
        run_dir = self.run_dir("finished")
        settings = {"checkpoint.every_steps": 4}
        support.run(support.train_command(self.prefix, run_dir, settings), ranks=2)
        found, = self.status(run_dir)
        self.assertEqual((found["state"], found["step"], found["steps"]), ("finished", 10, 10))
        self.assertTrue(found["checkpoint"].endswith("step_00000010"))
        self.assertGreater(found["loss"], 0)
        settings["steps"] = 12
        support.run(support.train_command(self.prefix, run_dir, settings))
        events = self.events(run_dir)
        self.assertEqual([(event["start"], event["event"]) for event in events
                          if event["event"] != "save"],
                         [(1, "start"), (1, "end"), (2, "start"), (2, "end")])
        self.assertIn("save", [event["event"] for event in events])
        first, second = [event for event in events if event["event"] == "start"]
        self.assertEqual((first["ranks"], first["resumed_from"], first["steps_lost"]), (2, None, 0))
        self.assertEqual((second["ranks"], second["resumed_from"]), (1, 10))
        self.assertNotEqual(first["config_xxh3_128"], second["config_xxh3_128"])
        self.assertRegex(first["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_a_run_that_is_running_stopped_and_killed(self):
        job = self.start("busy")
        run_dir = self.run_dir("busy")
        processes.wait_for(lambda: processes.checkpoints(run_dir), 60, "a checkpoint")
        found, = self.status(run_dir)
        self.assertEqual(found["state"], "running")
        self.assertIn(f"process {job.process.pid} on ", found["holder"])
        self.assertGreater(found["eta_seconds"], 0)
        self.assertIn(": running (process", support.run(["status", run_dir]).stdout)
        job.signal(signal.SIGTERM)
        self.assertEqual(job.finish(60)[0], 75)
        found, = self.status(run_dir)
        self.assertEqual(found["state"], "stopped")
        self.assertIn("SIGTERM", found["reason"])
        job = self.start("busy")
        saved = processes.checkpoints(run_dir)
        processes.wait_for(lambda: processes.checkpoints(run_dir) != saved, 60, "a checkpoint")
        job.signal(signal.SIGKILL)
        job.finish(60)
        found, = self.status(run_dir)
        self.assertEqual(found["state"], "killed")
        # A line that a crash has torn is removed at the next start.
        with open(os.path.join(run_dir, "events.jsonl"), "a", encoding="utf-8") as file:
            file.write('{"time": "2026')
        self.assertEqual(self.status(run_dir)[0]["state"], "killed")
        before = found["step"]
        job = self.start("busy")
        processes.wait_for(lambda: self.status(run_dir)[0]["state"] == "running", 60, "a start")
        job.signal(signal.SIGTERM)
        job.finish(60)
        start = [event for event in self.events(run_dir) if event["event"] == "start"][-1]
        self.assertEqual(start["start"], 3)
        self.assertEqual(start["steps_lost"], max(0, before - start["resumed_from"]))

    def test_a_failed_run(self):
        run_dir = self.run_dir("failed")
        done = support.run(support.train_command(self.prefix, run_dir, {"model.init_std": 1e30}))
        self.assertEqual(done.returncode, 3, done.stderr)
        found, = self.status(run_dir)
        self.assertEqual(found["state"], "failed")
        self.assertIn("diverged at step", found["reason"])

    def test_events_that_cannot_be_written_are_one_warning(self):
        run_dir = self.run_dir("readonly")
        os.makedirs(os.path.join(run_dir, "events.jsonl"))  # a folder
        done = support.run(support.train_command(self.prefix, run_dir))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("events.jsonl: cannot be written"), 1, done.stderr)

    def test_folders_without_events_and_without_a_run(self):
        run_dir = self.run_dir("old")
        support.run(support.train_command(self.prefix, run_dir))
        os.remove(os.path.join(run_dir, "events.jsonl"))
        self.assertEqual(self.status(run_dir)[0]["state"], "finished")
        done = support.run(["status", self.folder.name, run_dir])
        self.assertEqual(done.returncode, 2)
        self.assertIn("is no run folder", done.stderr)
        self.assertIn("finished", done.stdout)
        self.assertEqual(support.run(["status"]).returncode, 2)


if __name__ == "__main__":
    unittest.main()
