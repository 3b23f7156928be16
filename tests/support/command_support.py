"""Support for tests of the `unipool` program: runs it as one process or under the launcher, and
makes a small text and the settings of a small training run."""
import json
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("UNIPOOL_PROGRAM", str(ROOT / "build" / "launch" / "unipool"))
LAUNCHER = str(ROOT / "launch" / "mpirun.sh")

SETTINGS = {
    "steps": 10, "parallel.device": "CPU",
    "model.vocab": 257, "model.hidden": 32, "model.layers": 3, "model.heads": 4,
    "model.kv_heads": 2, "model.ffn": 48, "model.sequence": 32, "model.init_std": 0.05,
    "pool.experts": 7, "pool.router_c": 2, "pool.pool_loss": 0.01,
    "data.split": "90,5,5", "data.global_batch": 12,
    "schedule.lr": 1e-2, "schedule.min_lr": 1e-3, "schedule.warmup_steps": 2,
    "eval.sequences": 8,
}

VARIANTS = {
    "dense": {"model.ffn_kind": "DENSE"},
    # By default the layer loss uses the counts of one rank's micro-batch, so it would depend on the
    # number of ranks.
    "vanilla": {"pool.layers_per_pool": 1, "pool.router": "SOFTMAX", "pool.layer_loss": 0.01,
                "pool.layer_statistics": "GLOBAL", "pool.pool_loss": 0},
    "unipool": {},
    "top2": {"pool.top_k": 2},
}


def run(command, ranks=0, timeout=120, environment=None, stdin=None):
    """Runs `unipool COMMAND...`, under the launcher if ranks > 0, and returns the finished process.
    `stdin` is the text of its standard input."""
    words = [PROGRAM] + [str(word) for word in command]
    if ranks:
        words = [LAUNCHER, "-np", str(ranks)] + words
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout,
                          input=stdin, env=dict(os.environ, **(environment or {})), check=False)


def write_text(folder, documents=60):
    """Writes text.bin and text.idx with random sentences to a folder; returns their prefix."""
    generator = random.Random(5)
    words = ["pool", "expert", "token", "router", "layer", "rank", "loss", "gate"]
    pathlib.Path(folder).mkdir(exist_ok=True)
    source = pathlib.Path(folder) / "text.jsonl"
    with source.open("w") as file:
        for _ in range(documents):
            text = " ".join(generator.choice(words) for _ in range(60))
            file.write(json.dumps({"text": text}) + "\n")
    prefix = str(pathlib.Path(folder) / "text")
    done = run(["data", "prepare", "--input", source, "--output", prefix])
    assert done.returncode == 0, done.stderr
    return prefix


def train_command(prefix, run_dir, settings=None):
    """The words of `unipool train` with SETTINGS, of which `settings` overrides some."""
    merged = dict(SETTINGS, **(settings or {}))
    merged["data.prefix"] = prefix
    command = ["train", "--run-dir", run_dir]
    for field, value in merged.items():
        command += ["--set", f"{field}={value}"]
    return command


def metrics(run_dir):
    """The records of metrics.jsonl, one dict per line."""
    with open(os.path.join(run_dir, "metrics.jsonl")) as file:
        return [json.loads(line) for line in file]


# Fields of a record that differ between two equal runs.
TIMES = {"step_seconds", "tokens_per_second", "exposed_comm_seconds", "checkpoint_stall_seconds",
         "checkpoint_gigabytes_per_second"}


def untimed(run_dir):
    """The records of metrics.jsonl without the fields in TIMES."""
    return [{key: value for key, value in record.items() if key not in TIMES}
            for record in metrics(run_dir)]


def expect_same(test, one, other):
    """Asserts that two run folders have equal records and newest checkpoints with equal bytes."""
    test.assertEqual(untimed(one), untimed(other))
    one, other = latest_checkpoint(one), latest_checkpoint(other)
    names = sorted(os.listdir(one))
    test.assertEqual(names, sorted(os.listdir(other)))
    for name in names:
        if name.endswith(".safetensors"):
            test.assertEqual((one / name).read_bytes(), (other / name).read_bytes(), name)


def latest_checkpoint(run_dir):
    checkpoints = pathlib.Path(run_dir, "checkpoints")
    return checkpoints / (checkpoints / "latest").read_text().strip()


def read_tensors(path):
    """Reads a safetensors file of float32 tensors; returns {name: (shape, values)}."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", entry
        begin, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = (entry["shape"], struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]))
    return tensors


class TextTest(unittest.TestCase):
    """Base of tests that share a temporary folder and the prefix of a small text in it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = write_text(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
