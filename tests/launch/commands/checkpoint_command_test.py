#!/usr/bin/env python3
"""`unipool checkpoint`: inspect, verify, diff and export, and the errors of each."""
import json
import os
import pathlib
import struct
import unittest

import command_support as support


def read_header(path):
    """The header entries of a safetensors file, and the bytes after the header."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return header, data[start:]


def nearest_bf16(value):
    """The bits of the bfloat16 that is nearest to a float32; ties go to the even one."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    upper, lower = bits >> 16, bits & 0xFFFF
    return upper + (lower > 0x8000 or (lower == 0x8000 and upper & 1))


class CheckpointCommandTest(support.TextTest):
    def test_inspect_verify_diff_and_export(self):
        run_dir = os.path.join(self.folder.name, "run")
        command = support.train_command(self.prefix, run_dir, {
            "steps": 5, "checkpoint.every_steps": 2, "checkpoint.keep_last": 2})
        self.assertEqual(support.run(command, 2).returncode, 0)
        checkpoints = pathlib.Path(run_dir, "checkpoints")
        self.assertEqual(sorted(os.listdir(checkpoints)),
                         ["latest", "step_00000004", "step_00000005"])
        printed = self.checkpoint("inspect", checkpoints / "latest", "--json")
        self.assertEqual((json.loads(printed)["step"], json.loads(printed)["ranks"]), (5, 2))
        self.assertIn("good: 4 files", self.checkpoint("verify", checkpoints / "step_00000004"))
        self.assertIn("steps 5 and 5: the same", self.checkpoint("diff", run_dir, checkpoints))
        difference = json.loads(self.checkpoint("diff", run_dir, checkpoints / "step_00000004",
                                                "--json", code=1))
        self.assertFalse(difference["same"])
        self.assertEqual(difference["state"]["step"], ["5", "4"])
        self.assertIn("next_step: 5", difference["state"]["data"][0])
        self.assertIn("statistics", difference["state"])
        self.assertEqual(difference["config"], {})
        self.assertIn("lm_head.weight EXP_AVG", difference["tensors"])
        self.assertRegex(difference["largest_at"], r"^\S+ [A-Z_]+\[\d+\]$")
        self.assertGreater(difference["largest"], 0)
        self.assertGreater(difference["largest_relative"], 0)
        printed = self.checkpoint("diff", run_dir, checkpoints / "step_00000004", code=1)
        self.assertRegex(printed.splitlines()[-1],
                         r"^\d+ tensors differ; largest difference \S+ \(\S+ relative\) at \S+ ")
        tolerant = json.loads(self.checkpoint(
            "diff", run_dir, checkpoints / "step_00000004", "--json", "--tolerance",
            difference["largest"], code=1))  # because of the steps
        self.assertEqual(tolerant["tensors"], {})
        self.assertEqual(tolerant["largest"], difference["largest"])
        self.assertIn("--tolerance=-1", self.checkpoint("diff", run_dir, run_dir, "--tolerance",
                                                        "-1", code=2))
        exported = os.path.join(self.folder.name, "exported")
        self.checkpoint("export", run_dir, "--output", exported)
        self.assertIn("--force", self.checkpoint("export", run_dir, "--output", exported, code=2))
        self.checkpoint("export", run_dir, "--output", exported, "--force")
        together = {}
        for path in support.latest_checkpoint(run_dir).glob("model-*.safetensors"):
            together.update(support.read_tensors(path))
        self.assertEqual(support.read_tensors(os.path.join(exported, "model.safetensors")),
                         together)
        config = json.loads(pathlib.Path(exported, "config.json").read_text())
        self.assertEqual((config["router"]["c"], config["pool_of_layer"]), (2.0, [0, 0, 0]))

    def test_diff_is_of_the_whole_state_and_not_of_the_layout(self):
        runs = [os.path.join(self.folder.name, name) for name in ("a", "b", "c")]
        for run_dir, settings in zip(runs, ({}, {}, {"data.micro_batch": 3})):
            command = support.train_command(self.prefix, run_dir, dict(settings, steps=2))
            self.assertEqual(support.run(command).returncode, 0)
        self.assertIn("steps 2 and 2: the same", self.checkpoint("diff", *runs[:2]))
        printed = self.checkpoint("diff", runs[0], runs[2], code=1)
        self.assertIn("data.micro_batch: 0, 3", printed)
        self.assertNotIn("run_dir", printed)
        (support.latest_checkpoint(runs[1]) / "model-00000.safetensors").write_bytes(b"short")
        for other in (runs[1], "/nowhere"):
            self.assertIn(other, self.checkpoint("diff", runs[0], other, code=2))

    def test_bf16_is_rounded_to_the_nearest_and_to_even(self):
        run_dir, exported = (os.path.join(self.folder.name, name) for name in ("rounded", "bf16"))
        command = support.train_command(self.prefix, run_dir, {"steps": 3})
        self.assertEqual(support.run(command).returncode, 0)
        self.checkpoint("export", run_dir, "--dtype", "bf16", "--output", exported)
        header, data = read_header(os.path.join(exported, "model.safetensors"))
        checked = 0
        for path in support.latest_checkpoint(run_dir).glob("model-*.safetensors"):
            for name, (shape, values) in support.read_tensors(path).items():
                entry = header.pop(name)
                self.assertEqual((entry["dtype"], entry["shape"]), ("BF16", shape), name)
                begin, end = entry["data_offsets"]
                halves = struct.unpack(f"<{(end - begin) // 2}H", data[begin:end])
                self.assertEqual(halves, tuple(map(nearest_bf16, values)), name)
                checked += len(halves)
        self.assertEqual(header, {})
        self.assertGreater(checked, 10000)

    def test_each_mistake_is_a_line(self):
        for words, printed in (
                (["foo"],
                 'unknown sub-command "foo"; choose one of: inspect, verify, diff, export'),
                (["verfy"], 'did you mean "verify"?'),
                ([], "sub-command missing; choose one of: inspect, verify, diff, export"),
                (["verify"], "checkpoint verify: CHECKPOINT is missing"),
                (["diff", "a"], "checkpoint diff: OTHER is missing"),
                (["verify", "a", "b"], '"b": unexpected argument'),
                (["verify", "a", "--dtype", "bf16"], "--dtype: unknown flag"),
                (["verify", "--json", "a"], "--json: unknown flag"),
                (["export", "a"], "--output is missing"),
                (["export", "a", "--output", "b", "--dtype", "fp8"], "expected fp32 or bf16"),
                (["verify", "/nowhere"], "/nowhere: holds no checkpoint; give a run folder")):
            error = self.checkpoint(*words, code=2)
            self.assertIn(printed, error)
            self.assertEqual(error.count("\n"), 1, error)

    def checkpoint(self, *words, code=0):
        """The output of the command; that of standard error if it reports an error."""
        done = support.run(["checkpoint", *words])
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr if code == 2 else done.stdout


if __name__ == "__main__":
    unittest.main()
