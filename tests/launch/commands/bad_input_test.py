#!/usr/bin/env python3
"""User errors: each prints one line, returns the right exit code and writes nothing. On two ranks,
one of them prints the line."""
import os
import pathlib
import signal
import socket
import subprocess
import time
import unittest

import command_support as support

BAD_INPUT, DIVERGED = 2, 3


def own_lines(text):
    """The program's own lines of standard error; mpirun adds a paragraph about the exit code."""
    return [line for line in text.splitlines() if line.startswith("unipool:")]


class BadInputTest(support.TextTest):
    def expect_refusal(self, settings, *parts, prefix=None, run_dir=None, code=BAD_INPUT,
                       ranks=(0, 2)):
        for size in ranks:
            target = os.path.join(self.folder.name, "refused")
            if run_dir:
                target = run_dir if len(ranks) == 1 else f"{run_dir}-{size}"
            command = support.train_command(prefix or self.prefix, target, settings)
            done = support.run(command, size)
            self.assertEqual(done.returncode, code, done.stderr)
            lines = own_lines(done.stderr)
            self.assertEqual(len(lines), 1, done.stderr)
            for part in parts:
                self.assertIn(part, lines[0])
            if run_dir is None:
                self.assertFalse(os.path.exists(target), "something was written")

    def test_processes_that_are_not_connected_are_refused_in_one_line(self):
        for variables, part in (
                ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "%d"}, "add --mpi=pmix to srun"),
                ({"PMI_SIZE": "2", "PMI_RANK": "%d"}, "(launch/mpirun.sh)")):
            run_dir = os.path.join(self.folder.name, "lone")
            lines = []
            for task in (0, 1):
                environment = {name: value.replace("%d", str(task))
                               for name, value in variables.items()}
                done = support.run(support.train_command(self.prefix, run_dir),
                                   environment=environment)
                self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
                lines += done.stderr.splitlines()
            self.assertEqual(len(lines), 1, lines)
            self.assertIn(part, lines[0])
            self.assertFalse(os.path.exists(run_dir))

    def test_a_run_folder_with_something_in_the_way_is_refused_before_training(self):
        for name, is_folder, part in (
                ("checkpoints/latest", True, "latest: is a folder, but the run writes a file"),
                ("metrics.jsonl", True, "metrics.jsonl: is a folder"),
                ("config.textproto", True, "config.textproto: is a folder"),
                ("checkpoints", False, "checkpoints: is a file, but the run writes a folder"),
                ("loads", False, "loads: is a file"), ("log", False, "log: is a file")):
            with self.subTest(name=name):
                run_dir = pathlib.Path(self.folder.name, "blocked-" + name.replace("/", "-"))
                (run_dir / name).parent.mkdir(parents=True)
                (run_dir / name).mkdir() if is_folder else (run_dir / name).write_text("x")
                self.expect_refusal({"steps": 3, "schedule.warmup_steps": 1}, part,
                                    "choose another --run-dir", run_dir=str(run_dir), ranks=(0,))

    def test_messages_do_not_repeat_long_input(self):
        long = "q" * 100000
        path = pathlib.Path(self.folder.name, "long.textproto")
        for text in (f"{long}: 5", f"steps: {long}", "steps: " + "9" * 100000, f'"{long}',
                     f"pool {{ router: {long} }}", "{" * 100000):
            path.write_text(text)
            done = support.run(["config", "show", path])
            self.assertEqual(done.returncode, BAD_INPUT, done.stderr[:300])
            self.assertEqual(done.stderr.count("\n"), 1)
            self.assertLess(len(done.stderr) - len(str(path)), 300, done.stderr[:500])
        for words in ([f"--{long}"], [long], ["config", "show", "x", "--set", f"{long}=1"],
                      ["config", "show", "x", f"--{long}"], ["train", "--time-limit", long]):
            done = support.run(words)
            self.assertEqual(done.returncode, BAD_INPUT, done.stderr[:300])
            self.assertLess(len(done.stderr), 600, done.stderr[:500])

    def test_files_of_another_kind_are_refused(self):
        socket_path = os.path.join(self.folder.name, "socket")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(socket_path)
            for path, part in (("/dev/zero", "is a device"), ("/dev/urandom", "is a device"),
                               (self.folder.name, "is a folder"), (socket_path, "No such device")):
                with self.subTest(path=path):
                    done = support.run(["config", "show", path], timeout=20)
                    self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                    self.assertIn(part, done.stderr)

    def test_a_config_of_another_editor_is_read(self):
        text = "steps: 5\nmodel { vocab: 257 hidden: 8 layers: 1 heads: 1 sequence: 8 }\n" \
               "pool { experts: 2 }\nrun_dir: \"r\"\ndata { prefix: \"t\" global_batch: 1 }\n"
        path = pathlib.Path(self.folder.name, "edited.textproto")
        for data in (text.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + text.encode()):
            path.write_bytes(data)
            done = support.run(["config", "show", path])
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        path.write_bytes(text.encode("utf-16"))
        done = support.run(["config", "show", path])
        self.assertEqual(done.returncode, BAD_INPUT)
        self.assertIn("is UTF-16 text; save it as UTF-8", done.stderr)

    def test_config_mistakes_name_the_field(self):
        self.expect_refusal({"pool.top_k": 8}, "pool.top_k", "7")
        self.expect_refusal({"model.heads": 5}, "model.heads")
        self.expect_refusal({"steps": 0}, "steps")
        self.expect_refusal({"model.hiden": 32}, "hiden", "hidden")
        self.expect_refusal({"model.layers": "four"}, "model.layers=four")

    def test_misused_commands_are_a_line(self):
        for words, message in (
                (["trian"], '"trian": unknown command; did you mean "train"?'),
                (["foo"], '"foo": unknown command; unipool --help lists all'),
                (["config"], "config: sub-command missing; choose one of: show"),
                (["config", "sow", "x"],
                 'config: unknown sub-command "sow"; did you mean "show"? choose one of: show'),
                (["config", "show"], "config show: FILE is missing"),
                (["data", "inpect"], 'did you mean "inspect"?'),
                (["bench", "stp"],
                 'bench: unknown sub-command "stp"; did you mean "step"? choose one of'),
                (["bench"], "bench: sub-command missing; choose one of: step, checkpoint"),
                (["bench", "step", "--times", "3"], "bench step: --times: unknown flag"),
                (["train", "x"], 'train: "x": unexpected argument; unipool train --help lists'),
                (["help", "trian"], '"trian": unknown command; did you mean "train"?'),
                (["help", "train", "x"], 'train has no sub-command "x"'),
                (["data", "inspect"], "data inspect: PREFIX is missing"),
                (["probe", "resue"], 'did you mean "reuse"?')):
            done = support.run(words)
            self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
            self.assertIn(message, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_each_command_has_its_own_help_and_is_listed(self):
        listed = {line.split()[0]: line
                  for line in support.run(["--help"]).stdout.splitlines()[1:]}
        for words in ("config show", "checkpoint inspect", "checkpoint verify", "checkpoint diff",
                      "checkpoint export", "data prepare", "data inspect", "data batch",
                      "data bigram", "probe randomize", "probe reuse", "probe utilization",
                      "bench step", "bench checkpoint", "train", "evaluate", "score", "help",
                      "version"):
            done = support.run(words.split() + ["--help"])
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            for same in (words.split() + ["-h"], ["help"] + words.split()):
                self.assertEqual(support.run(same).stdout, done.stdout, same)
            usages = [line for line in done.stdout.splitlines() if line.startswith("usage:")]
            self.assertEqual(len(usages), 1, done.stdout)
            self.assertTrue(usages[0].startswith(f"usage: unipool {words}"), usages)
            command, *sub = words.split()
            for name in sub:
                self.assertRegex(listed[command], rf"\b{name}\b")

    def test_missing_data_names_the_file(self):
        self.expect_refusal({}, "/nowhere/text.idx", prefix="/nowhere/text")

    def test_truncated_data_names_the_file_and_the_byte(self):
        prefix = os.path.join(self.folder.name, "short")
        for suffix in (".bin", ".idx"):
            data = pathlib.Path(self.prefix + suffix).read_bytes()
            pathlib.Path(prefix + suffix).write_bytes(data[:-10] if suffix == ".bin" else data)
        size = os.path.getsize(prefix + ".bin")
        self.expect_refusal({}, "short.bin", str(size), str(size + 10), prefix=prefix)

    def test_a_sequence_longer_than_the_data_is_refused(self):
        self.expect_refusal({"model.sequence": 10**6}, "1000000", "tokens")

    def test_an_unwritable_run_folder_is_refused(self):
        blocker = os.path.join(self.folder.name, "a-file")
        pathlib.Path(blocker).write_text("in the way")
        self.expect_refusal({}, "a-file", run_dir=os.path.join(blocker, "run"))

    def test_a_run_folder_that_cannot_be_looked_up_is_refused(self):
        self.expect_refusal({}, "cannot be looked up: File name too long",
                            run_dir=os.path.join(self.folder.name, "x" * 300))

    def test_a_model_larger_than_the_memory_is_refused(self):
        self.expect_refusal({"model.hidden": 10**6, "model.ffn": 10**6}, "needs", "MiB")

    def test_numbers_that_the_device_does_not_compute_in_are_refused(self):
        self.expect_refusal({"model.precision": "BF16"}, "model.precision is BF16", "--device cuda")

    def test_a_gpu_that_is_not_there_is_refused(self):
        command = support.train_command(self.prefix, os.path.join(self.folder.name, "no-gpu"))
        done = support.run(command + ["--device", "cuda"])
        if done.returncode == 0:
            self.skipTest("there is a GPU")
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertEqual(len(own_lines(done.stderr)), 1, done.stderr)
        self.assertIn("parallel.device is CUDA, but this host has no usable GPU", done.stderr)
        done = support.run(command + ["--device", "gpu"])
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertIn("--device=gpu: expected auto, cpu or cuda", done.stderr)

    def test_bench_without_a_temporary_folder_is_one_line(self):
        command = support.train_command(self.prefix, "unused")[3:]
        for ranks in (0, 2):
            # mpirun wants a folder of its own, so the program alone gets the bad one.
            words = ["env", "TMPDIR=/nowhere", support.PROGRAM, "bench", "step"] + command
            words = ([support.LAUNCHER, "-np", str(ranks)] if ranks else []) + words
            done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
            self.assertEqual(len(own_lines(done.stderr)), 1, done.stderr)
            self.assertIn("TMPDIR", done.stderr)

    def test_force_replaces_the_whole_run(self):
        run_dir = os.path.join(self.folder.name, "replaced")
        settings = {"schedule.warmup_steps": 0}
        for steps in (2, 1):
            command = support.train_command(self.prefix, run_dir, dict(settings, steps=steps))
            self.assertEqual(support.run(command + ["--force"]).returncode, 0)
        self.assertEqual(sorted(os.listdir(os.path.join(run_dir, "checkpoints"))),
                         ["latest", "step_00000001"])

    def test_checkpoints_are_removed_only_with_force(self):
        run_dir = os.path.join(self.folder.name, "weights-only")
        weights = pathlib.Path(run_dir, "checkpoints", "step_00000009", "model-00000.safetensors")
        weights.parent.mkdir(parents=True)
        weights.write_text("precious")
        refused = support.run(support.train_command(self.prefix, run_dir))
        self.assertEqual(refused.returncode, BAD_INPUT)
        self.assertIn("--force", refused.stderr)
        self.assertEqual(weights.read_text(), "precious")

    def test_force_takes_the_place_of_a_run_only(self):
        run_dir = pathlib.Path(self.folder.name, "not-a-run")
        (run_dir / "checkpoints").mkdir(parents=True)
        (run_dir / "checkpoints" / "mine.txt").write_text("precious")
        refused = support.run(support.train_command(self.prefix, run_dir) + ["--force"])
        self.assertEqual(refused.returncode, BAD_INPUT)
        self.assertRegex(refused.stderr, r"not-a-run/checkpoints exists, but \S*config.textproto "
                         "does not: this is not a run folder, so --force replaces nothing in it")
        self.assertEqual((run_dir / "checkpoints" / "mine.txt").read_text(), "precious")

    def test_output_that_cannot_be_written_is_not_done(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([support.PROGRAM, "config", "show",
                                   str(support.ROOT / "configs/quickstart.textproto")],
                                  stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "unipool: the standard output cannot be written\n")

    def test_more_threads_than_can_be_started_are_a_warning(self):
        run_dir = os.path.join(self.folder.name, "threads")
        command = support.train_command(self.prefix, run_dir, {"steps": 1,
                                                               "schedule.warmup_steps": 0})
        done = support.run(command, environment={"OMP_NUM_THREADS": "99999"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("OMP_NUM_THREADS is 99999, the maximum is 1024", done.stderr)

    def test_a_fresh_start_in_a_run_folder_is_refused_unless_forced(self):
        run_dir = os.path.join(self.folder.name, "used")
        settings = {"steps": 1, "schedule.warmup_steps": 0}
        command = support.train_command(self.prefix, run_dir, settings)
        self.assertEqual(support.run(command).returncode, 0)
        before = pathlib.Path(run_dir, "metrics.jsonl").read_bytes()
        refused = support.run(command + ["--fresh"])
        self.assertEqual(refused.returncode, BAD_INPUT)
        self.assertIn("--force", refused.stderr)
        self.assertEqual(pathlib.Path(run_dir, "metrics.jsonl").read_bytes(), before)
        self.assertEqual(support.run(command + ["--fresh", "--force"]).returncode, 0)

    def test_a_nan_loss_stops_with_the_step_and_the_tensor(self):
        settings = {"schedule.lr": 1e38, "schedule.min_lr": 1e37}
        self.expect_refusal(settings, "diverged at step 3", "first bad tensor:", code=DIVERGED,
                            run_dir=os.path.join(self.folder.name, "diverged"))

    def test_the_ranks_end_within_seconds_after_mpirun_dies(self):
        run_dir = os.path.join(self.folder.name, "killed")
        command = support.train_command(self.prefix, run_dir, {"steps": 10**6})
        job = subprocess.Popen([support.LAUNCHER, "-np", "3", support.PROGRAM] +
                               [str(word) for word in command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        try:
            victim = self.wait_for_mpirun(job.pid, run_dir)
            killed_at = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            self.assertNotEqual(job.wait(timeout=30), 0)
            self.assertLess(time.monotonic() - killed_at, 10)
        finally:
            job.kill()
            job.wait()
        folders = os.listdir(os.path.join(run_dir, "checkpoints"))
        self.assertEqual(folders, [], "a checkpoint was left behind")

    def wait_for_mpirun(self, launcher_pid, run_dir):
        """The process id of mpirun, once the run has trained a few steps."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.1)
            path = pathlib.Path(run_dir, "metrics.jsonl")
            if path.exists() and len(path.read_text().splitlines()) > 3:
                children = pathlib.Path(f"/proc/{launcher_pid}/task/{launcher_pid}/children")
                for child in children.read_text().split():
                    if pathlib.Path(f"/proc/{child}/comm").read_text() == "mpirun\n":
                        return int(child)
        raise AssertionError("the run did not start")


if __name__ == "__main__":
    unittest.main()
