#!/usr/bin/env python3
"""`cmake --install` into a temporary prefix: the program, its launcher, configs, man page and
completions work from there."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import command_support as support

BUILD = pathlib.Path(support.PROGRAM).parents[1]
# Completes the words given as arguments, of which the last is at the cursor.
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
compopt() { :; }
_unipool
printf '%s\\n' "${COMPREPLY[@]}"
"""


def call(*words, **named):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=120, check=False, **named)


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = pathlib.Path(cls.folder.name, "prefix")
        done = call("cmake", "--install", BUILD, "--prefix", cls.prefix)
        assert done.returncode == 0, done.stdout + done.stderr

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name):
        path = self.prefix / name
        self.assertTrue(path.is_file(), path)
        return path

    def complete(self, *words):
        script = self.path("share/bash-completion/completions/unipool")
        done = call("bash", "-c", COMPLETE, "bash", script, *words, cwd=self.prefix)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def test_the_program_runs_and_prints_its_version(self):
        done = call(self.path("bin/unipool"), "--version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^unipool \d+\.\d+\.\d+ \(revision (\w{12}|unknown)")
        for name in ("BLAS", "MPI", "protobuf"):
            self.assertRegex(done.stdout, rf"{name} +built with \S.*; found: \S")

    def test_an_archive_has_no_revision_and_an_unchanged_file_is_kept(self):
        folder = pathlib.Path(self.folder.name, "archive")
        folder.mkdir()
        output = folder / "build_info.cc"
        command = ["cmake", f"-DSOURCE={folder}", f"-DOUTPUT={output}", "-DVERSION=1.2.3",
                   "-P", support.ROOT / "tools" / "build_info.cmake"]
        self.assertEqual(call(*command).returncode, 0)
        self.assertIn('.revision = "unknown"', output.read_text())
        os.utime(output, (1, 1))
        self.assertEqual(call(*command).returncode, 0)
        self.assertEqual(output.stat().st_mtime, 1)

    def test_the_configs_are_read(self):
        done = call(self.path("bin/unipool"), "config", "show",
                    self.path("share/unipool/configs/quickstart.textproto"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("# parameters", done.stdout)

    def test_the_launcher_finds_the_program_beside_it(self):
        text = support.write_text(self.folder.name)
        run_dir = os.path.join(self.folder.name, "run")
        command = support.train_command(text, run_dir, {"steps": 2})
        done = call(self.path("bin/unipool-mpirun"), "-np", 2, "unipool", *command,
                    cwd=self.folder.name)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(support.metrics(run_dir)[-1]["step"], 2)
        manifest = support.latest_checkpoint(run_dir) / "manifest.textproto"
        version = call(self.path("bin/unipool"), "--version").stdout.splitlines()[0]
        self.assertIn(f'program: "{version.removeprefix("unipool ")}"', manifest.read_text())
        logs = [path.read_text() for path in pathlib.Path(run_dir, "log").iterdir()]
        self.assertTrue(any(version in log for log in logs), logs)

    def test_the_man_page_renders_without_warnings(self):
        page = self.path("share/man/man1/unipool.1")
        self.assertIn("--time-limit", re.sub(r"\\-", "-", page.read_text()))
        if shutil.which("groff") is None:
            self.skipTest("groff is not installed")
        done = call("groff", "-man", "-Tutf8", "-ww", page)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_bash_completes_commands_flags_and_values(self):
        self.assertIn("evaluate", self.complete("unipool", "e"))
        self.assertEqual(self.complete("unipool", "data", "in"), ["inspect"])
        self.assertIn("--config", self.complete("unipool", "train", "--"))
        self.assertEqual(self.complete("unipool", "train", "--device", "c"), ["cpu", "cuda"])
        self.assertEqual(self.complete("unipool", "train", "--device", "=", "cu"), ["cuda"])
        self.assertIn("model.layers=", self.complete("unipool", "train", "--set", "model.l"))
        self.assertEqual(self.complete("unipool", "config", "show", "sh"), ["share"])
        self.assertEqual(self.complete("unipool", "train", "--config", "sh"), ["share"])
        self.assertEqual(self.complete("unipool", "help", "pro"), ["probe"])

    def test_zsh_accepts_its_completion(self):
        script = self.path("share/zsh/site-functions/_unipool")
        self.assertTrue(script.read_text().startswith("#compdef unipool\n"))
        if shutil.which("zsh") is None:
            self.skipTest("zsh is not installed")
        done = call("zsh", "-n", script)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
