#!/usr/bin/env python3
"""`train --change FIELD=VALUE` resumes a run with another value of a field, once, and records
it."""
import json
import os
import pathlib
import unittest

import command_support as support


class ChangeTest(support.TextTest):
    def train(self, name, *flags, settings=None, status=0, ranks=0):
        run_dir = os.path.join(self.folder.name, name)
        command = support.train_command(self.prefix, run_dir, settings)
        done = support.run(command + list(flags), ranks)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def rates(self, name):
        return [record["lr"] for record in support.metrics(os.path.join(self.folder.name, name))
                if "lr" in record]

    def changes(self, name):
        printed = support.run(["checkpoint", "inspect", os.path.join(self.folder.name, name),
                               "--json"]).stdout
        return json.loads(printed)["changes"]

    def test_a_changed_rate_counts_from_the_next_step_on_and_stays(self):
        self.train("former")
        self.train("other", settings={"schedule.lr": 2e-2})
        flags = ("--change", "schedule.lr=2e-2")
        self.train("run", "--stop-after", "4", ranks=2)
        done = self.train("run", "--stop-after", "7", *flags, ranks=2)
        self.assertIn("from step 5 on, schedule.lr is 0.02, before 0.01", done.stderr)
        again = self.train("run", *flags, ranks=2)
        self.assertNotIn("before 0.01", again.stderr)
        self.assertEqual(self.rates("run"), self.rates("former")[:4] + self.rates("other")[4:])
        expected = [{"step": 4, "field": "schedule.lr", "former": "0.01", "value": "0.02"}]
        self.assertEqual(self.changes("run"), expected)
        events = pathlib.Path(self.folder.name, "run", "events.jsonl").read_text().splitlines()
        recorded = [event for event in map(json.loads, events) if event["event"] == "change"]
        self.assertEqual([event["step"] for event in recorded], [4])

    def test_an_extension_has_the_schedule_that_is_given(self):
        self.train("short")
        longer = {"steps": 20, "schedule.decay_steps": 20}
        self.train("short", "--change", "schedule.decay_steps=20", settings=longer)
        self.train("long", settings=longer)
        self.assertEqual(self.rates("short")[10:], self.rates("long")[10:])
        self.assertEqual(self.changes("short")[0]["field"], "schedule.decay_steps")

    def test_the_former_value_is_refused_with_the_remedy(self):
        self.train("back", "--stop-after", "3")
        self.train("back", "--stop-after", "5", "--change", "optimizer.clip_norm=0.5")
        done = self.train("back", status=2)
        self.assertIn("optimizer.clip_norm = 1 (the checkpoint has 0.5)", done.stderr)
        self.assertIn("--change FIELD=VALUE", done.stderr)

    def test_what_cannot_change_is_refused_with_the_reason(self):
        self.train("fixed", "--stop-after", "3")
        for change, reason in (("model.layers=4", "is a part of the model"),
                               ("pool.experts=9", "is a part of the model"),
                               ("data.global_batch=24", "which data the next step reads"),
                               ("data.tokenizer=GPT2", "is the data that"),
                               ("eval.sequences=4", "use --set"),
                               ("bogus=1", "not a field of Run"),
                               ("schedule.lr", "schedule.lr"),
                               ("schedule.lr=fast", "schedule.lr")):
            with self.subTest(change=change):
                done = self.train("fixed", "--change", change, status=2)
                self.assertIn(reason, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(len(self.rates("fixed")), 3)
        change = ("--change", "schedule.lr=2e-2")
        self.assertIn("use --set", self.train("none", *change, status=2).stderr)
        self.assertFalse(os.path.exists(os.path.join(self.folder.name, "none")))
        self.assertIn("use --set", self.train("fixed", "--force", *change, status=2).stderr)


if __name__ == "__main__":
    unittest.main()
