#!/usr/bin/env python3
"""`unipool evaluate`, `score` and `probe` on a trained checkpoint: one rank and several give the
same numbers, the output is valid, and a usage error is one line."""
import json
import math
import os
import pathlib
import re
import subprocess
import threading
import unittest

import command_support as support

BAD_INPUT = 2


class EvaluateTest(support.TextTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.runs = {name: cls.train(name) for name in ("unipool", "vanilla", "dense")}

    @classmethod
    def train(cls, name):
        run_dir = os.path.join(cls.folder.name, name)
        done = support.run(support.train_command(cls.prefix, run_dir, support.VARIANTS[name]))
        assert done.returncode == 0, done.stderr
        return run_dir

    def path(self, name, text=None):
        path = pathlib.Path(self.folder.name, name)
        if text is not None:
            path.write_text(text)
        return str(path)

    def test_a_damaged_newest_checkpoint_is_passed_over(self):
        run_dir = os.path.join(self.folder.name, "damaged")
        done = support.run(support.train_command(self.prefix, run_dir,
                                                 {"checkpoint.every_steps": 4}))
        self.assertEqual(done.returncode, 0, done.stderr)
        checkpoints = pathlib.Path(run_dir, "checkpoints")
        command = ["evaluate", "--json", "--checkpoint"]
        older = json.loads(support.run(command + [checkpoints / "step_00000008"]).stdout)
        newest = checkpoints / "step_00000010"
        manifest, weights = newest / "manifest.textproto", newest / "model-00000.safetensors"
        for path in (weights, manifest):
            good = path.read_bytes()
            path.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
            for ranks in (0, 2):
                done = support.run(command + [run_dir], ranks)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stderr.count("checkpoint passed over: "), 1, done.stderr)
                found = json.loads(done.stdout)
                self.assertEqual(found["step"], 8)
                self.expect_near(found["loss"], older["loss"])
            named = support.run(command + [newest])
            self.assertNotEqual(named.returncode, 0)
            self.assertIn(path.name, named.stderr)
            path.write_bytes(good)

    def run_ok(self, command, run="unipool", ranks=0, stdin=None):
        done = support.run(command + ["--checkpoint", self.runs[run]], ranks, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def json_of(self, command, run="unipool", ranks=0):
        return json.loads(self.run_ok(command + ["--json"], run, ranks))

    def expect_refusal(self, command, *parts, run="unipool", ranks=0, stdin=None):
        done = support.run(command + ["--checkpoint", self.runs[run]], ranks, stdin=stdin)
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("unipool:")]
        self.assertEqual(len(lines), 1, done.stderr)
        for part in parts:
            self.assertIn(part, lines[0])
        self.assertEqual(done.stdout.split("\n")[0], "", "something was written")

    def expect_near(self, one, other, tolerance=1e-5):
        """Equal JSON up to rounding."""
        self.assertEqual(type(one), type(other))
        if isinstance(one, dict):
            self.assertEqual(list(one), list(other))
            one, other = list(one.values()), list(other.values())
        if isinstance(one, list):
            self.assertEqual(len(one), len(other))
            for a, b in zip(one, other):
                self.expect_near(a, b, tolerance)
        elif isinstance(one, float):
            self.assertAlmostEqual(one, other, delta=tolerance * max(1, abs(one)))
        else:
            self.assertEqual(one, other)

    def test_the_loss_is_the_last_validation_of_the_run(self):
        for name, run_dir in self.runs.items():
            last = support.metrics(run_dir)[-1]
            alone = self.json_of(["evaluate"], name)
            for found in (alone, self.json_of(["evaluate"], name, 3)):
                self.assertAlmostEqual(found["loss"], last["validation_loss"], delta=1e-5)
                self.assertAlmostEqual(found["bits_per_byte"], last["validation_bits_per_byte"],
                                       delta=1e-5)
                self.assertAlmostEqual(found["perplexity"], math.exp(found["loss"]), delta=1e-6)
                self.assertEqual(found.get("counts"), alone.get("counts"))
                self.assertEqual(found["split"], "validation")
                if name != "dense":
                    self.assertEqual([sum(row) for row in found["counts"]], [8 * 32] * 3)

    def test_output_goes_to_a_file_too(self):
        path = self.path("report.json")
        text = self.run_ok(["evaluate", "--output", path, "--sequences", "3", "--first", "1"])
        report = json.loads(pathlib.Path(path).read_text())
        self.assertEqual((report["first"], report["sequences"], report["tokens"]), (1, 3, 96))
        self.assertIn(f"loss {report['loss']:.4f}", text)

    def test_fewer_sequences_than_requested_are_a_warning(self):
        for order, sequences in (("STATELESS", None), ("MEGATRON", 8)):
            command = ["evaluate", "--json", "--checkpoint", self.runs["unipool"],
                       "--set", f"data.order={order}", "--set", "eval.every_steps=0"]
            done = support.run(command + ["--sequences", "5"])
            self.assertNotIn("were requested", done.stderr)
            done = support.run(command + ["--sequences", "5000"])
            self.assertEqual(done.returncode, 0, done.stderr)
            found = json.loads(done.stdout)["sequences"]
            self.assertIn("5000 sequences of the validation part were requested, but it has only "
                          f"{found}", done.stderr)
            self.assertEqual(found, sequences or found)

    def test_scores_are_in_order_and_sum_to_the_loss(self):
        lines = [{"text": "pool expert token"}, {"tokens": []}, {"tokens": [112, 111, 111]},
                 {"tokens": [7]}, {"text": "layer rank loss gate"}]
        path = self.path("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        alone = [json.loads(line) for line in
                 self.run_ok(["score", "--input", path]).splitlines()]
        self.assertEqual([line["tokens"] for line in alone[1:4]], [[], [112, 111, 111], [7]])
        self.assertEqual(bytes(alone[0]["tokens"]).decode(), "pool expert token")
        for line in alone:
            self.assertEqual(len(line["logprobs"]), len(line["tokens"]))
            self.assertEqual(line["logprobs"][:1], [None][:len(line["tokens"])])
        out = self.path("out.jsonl")
        self.assertEqual(self.run_ok(["score", "--input", path, "--output", out], ranks=3), "")
        on_ranks = [json.loads(line) for line in pathlib.Path(out).read_text().splitlines()]
        self.expect_near(alone, on_ranks)
        piped = self.run_ok(["score", "--input", "-"], stdin=pathlib.Path(path).read_text())
        self.expect_near(alone, [json.loads(line) for line in piped.splitlines()])

    def test_tasks_are_answered_the_same_on_ranks(self):
        tasks = self.path("tasks.jsonl", "".join(json.dumps(question) + "\n" for question in [
            {"context": "pool expert", "choices": [" token", " zqxj"], "gold": 0},
            {"context": "", "choices": ["rank", "#@!", "gate"], "gold": 2}]))
        command = ["evaluate", "--tasks", tasks]
        alone = self.json_of(command)
        self.assertNotIn("loss", alone)
        report = alone["tasks"][0]
        self.assertEqual(report["questions"], 2)
        self.assertIn(report["accuracy"], (0, 0.5, 1))
        self.expect_near(alone, self.json_of(command, ranks=3))
        self.assertIn("loss", self.json_of(command + ["--split", "validation"]))

    def test_randomize_is_reproducible(self):
        command = ["probe", "randomize", "--matched", "2", "--find-sequences", "2", "--seed", "5"]
        alone = self.json_of(command)
        self.assertEqual([layer["layer"] for layer in alone["full"]["layers"]], [1, 2])
        self.assertEqual(alone["first"], 2, "the loss leaves out what the experts were found on")
        for layer in alone["matched"]["layers"]:
            self.assertEqual(len(layer["experts"]), 2)
        settings = alone["settings"]
        self.assertEqual((settings["gate"], settings["draw"], settings["seed"]),
                         ("original", "token", 5))
        self.expect_near(alone, self.json_of(command, ranks=3))
        mean = sum(layer["loss"] - alone["baseline"]["loss"] for layer in alone["full"]["layers"])
        self.assertAlmostEqual(alone["full"]["mean_change"]["loss"], mean / 2, delta=1e-9)
        other = self.json_of(command + ["--layers", "all", "--gate", "own", "--draw", "sequence"])
        self.assertEqual(len(other["full"]["layers"]), 3)
        vanilla = self.json_of(["probe", "randomize"], "vanilla")
        self.assertNotIn("matched", vanilla)

    def test_reuse_of_private_experts_is_one_a_layer(self):
        vanilla = self.json_of(["probe", "reuse"], "vanilla")
        self.assertEqual(vanilla["distinct_experts"], 3)
        self.assertAlmostEqual(vanilla["chance"], 3)
        shared = self.json_of(["probe", "reuse"])
        self.assertAlmostEqual(shared["chance"], 7 * (1 - (6 / 7) ** 3))
        self.assertEqual(sum(shared["histogram"]), shared["tokens"])
        mean = sum(u * n for u, n in enumerate(shared["histogram"])) / shared["tokens"]
        self.assertAlmostEqual(shared["distinct_experts"], mean)
        self.expect_near(shared, self.json_of(["probe", "reuse"], ranks=2))

    def test_utilization_writes_numbers_and_a_page(self):
        page = self.path("page.html")
        report = self.json_of(["probe", "utilization", "--html", page], ranks=3)
        counts = self.json_of(["evaluate"])["counts"]
        self.assertEqual(report["counts"], counts)
        for row, shares, bits in zip(counts, report["frequencies"], report["entropy_bits"]):
            self.expect_near(shares, [n / sum(row) for n in row])
            expected = -sum(n / sum(row) * math.log2(n / sum(row)) for n in row if n)
            self.assertAlmostEqual(bits, expected, delta=1e-9)
        self.assertEqual([sets["k"] for sets in report["top_sets"]], [1, 2, 3, 5])
        html = pathlib.Path(page).read_text()
        self.assertIn("<svg", html)
        self.assertIsNone(re.search(r"https?:|src=|href=|url\(", html))

    def through_a_pipe(self, command, text, ranks=0):
        """Runs `command PIPE` with a named pipe that gives `text` to its first reader."""
        pipe = self.path(f"pipe-{len(os.listdir(self.folder.name))}")
        os.mkfifo(pipe)
        writer = threading.Thread(target=pathlib.Path(pipe).write_text, args=(text,))
        if ranks == 0:
            writer.start()
            self.addCleanup(writer.join)
        return command + [pipe]

    def test_a_pipe_is_read_like_a_file(self):
        lines = '{"tokens": [5, 6, 7]}\n{"tokens": [1, 2]}\n\n'
        from_file = self.run_ok(["score", "--input", self.path("lines.jsonl", lines)])
        self.assertEqual(self.run_ok(self.through_a_pipe(["score", "--input"], lines)), from_file)
        self.expect_refusal(self.through_a_pipe(["score", "--input"], lines, ranks=2),
                            "2 ranks cannot share a pipe", ranks=2)
        tasks = '{"context": "a", "choices": ["b", "c"], "gold": 0}\n'
        answered = self.run_ok(self.through_a_pipe(["evaluate", "--tasks"], tasks))
        self.assertIn("1 questions", answered)
        self.expect_refusal(self.through_a_pipe(["evaluate", "--tasks"], tasks, ranks=2),
                            "2 ranks cannot share a pipe", ranks=2)

    def test_special_files_are_refused(self):
        for command in (["score", "--input"], ["evaluate", "--tasks"]):
            self.expect_refusal(command + ["/dev/zero"], "/dev/zero: a device; expected a file")
            self.expect_refusal(command + [self.folder.name], ": a folder; expected a file")
        with open("/dev/zero") as zero:
            done = subprocess.run([support.PROGRAM, "score", "--input", "-", "--checkpoint",
                                   self.runs["unipool"]], stdin=zero, capture_output=True,
                                  text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertEqual(done.stderr,
                         "unipool: standard input: a device; expected a file or a pipe\n")

    def test_mistakes_are_one_line(self):
        bad = self.path("bad.jsonl", '{"tokens": [1]}\n{"tokens": [999]}\n')
        self.expect_refusal(["score", "--input", bad], "bad.jsonl:2", "999", "257", ranks=2)
        self.expect_refusal(["score", "--input", "-"], "standard input:2", "999",
                            stdin=pathlib.Path(bad).read_text())
        self.expect_refusal(["score", "--input", "-"],
                            "--input -: 2 ranks cannot share standard input", ranks=2)
        self.expect_refusal(["score", "--input", "/nowhere"], "/nowhere")
        self.expect_refusal(["score"], "--input")
        self.expect_refusal(["evaluate", "--split", "half"], "half", "validation")
        self.expect_refusal(["evaluate", "--first", "100000"], "100000")
        self.expect_refusal(["evaluate", "--sequences", "0", "--set", "data.order=MEGATRON"],
                            "--sequences 0: data.order = MEGATRON has no end", ranks=2)
        nowhere = self.path("nowhere/x")
        for command in (["evaluate", "--output"], ["probe", "reuse", "--output"],
                        ["probe", "utilization", "--html"]):
            self.expect_refusal(command + [nowhere], f"{nowhere}: cannot be written", ranks=2)
        self.expect_refusal(["evaluate", "--tasks", bad], "bad.jsonl:1", "choices")
        self.expect_refusal(["evaluate", "--set", "data.prefix=/nowhere/x"], "/nowhere/x", ranks=2)
        self.expect_refusal(["evaluate", "--set", "data.splt=1"], "splt")
        self.expect_refusal(["probe", "randomize", "--gate", "half"], "--gate half")
        self.expect_refusal(["probe", "randomize", "--layers", "7"], "0 to 2")
        self.expect_refusal(["probe", "randomize", "--matched", "3", "--find-split", "foo"],
                            "--find-split foo: expected validation")
        self.expect_refusal(["probe", "randomize", "--matched", "0", "--find-split", "foo"],
                            "--find-split foo: expected validation")
        self.expect_refusal(["probe", "randomize", "--matched", "3", "--find-sequences", "1000"],
                            "expected more than --find-sequences ")
        for matched in ("7", "99"):
            self.expect_refusal(["probe", "randomize", "--matched", matched], f"--matched {matched}"
                                ": choose 0, or at least pool.top_k = 1 and less than "
                                "pool.experts = 7")
        self.expect_refusal(["probe", "reuse"], "dense", run="dense")
        done = support.run(["evaluate", "--checkpoint", "/nowhere"])
        self.assertEqual(done.returncode, BAD_INPUT)
        self.assertIn("/nowhere", done.stderr)
        self.assertEqual(support.run(["evaluate"]).returncode, BAD_INPUT)


if __name__ == "__main__":
    unittest.main()
