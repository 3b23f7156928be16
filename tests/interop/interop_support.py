"""Runs the scripts of this folder that import megatron-core, in an environment that has it."""
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77  # exit status of a test that is skipped


def library_python():
    """The interpreter UNIPOOL_INTEROP_PYTHON. Without it the test ends as skipped."""
    python = os.environ.get("UNIPOOL_INTEROP_PYTHON")
    if python:
        return python
    print("skipped: UNIPOOL_INTEROP_PYTHON is not set to a Python interpreter with megatron-core "
          "(tests/interop/README.md)")
    sys.exit(SKIPPED)


class Library:
    """A process of `script`, which answers each line of JSON with one."""

    def __init__(self, script):
        self.script = script
        self.process = subprocess.Popen(
            [library_python(), str(HERE / script)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.script} ended without an answer; run it by hand with "
                     f"{library_python()}")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.communicate()
