"""Runs of `unipool train` that tests send signals to: started, watched, ended, within a bound."""
import ctypes
import os
import pathlib
import signal
import subprocess
import time

import command_support as support

# Long enough that a signal comes in the middle; the files of a test are small all the same.
LONG = {"steps": 100000, "eval.every_steps": 0, "checkpoint.save_final": "true",
        "checkpoint.every_steps": 0}

# Of a run whose saves are long enough to be met (tests/support/slow_disk.cc).
SLOW_DISK = {"LD_PRELOAD": os.environ.get("UNIPOOL_SLOW_DISK", str(
    support.ROOT / "build" / "tests" / "libslow_disk.so"))}


def state(pid):
    """The letter of /proc for a process, "" where there is none; dead ones may stay as Z."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def is_alive(pid):
    return state(pid) not in ("", "Z", "X")


def environment_of(pid):
    try:
        data = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in data.decode(errors="replace").split("\0")
                if "=" in entry)


def wait_for(condition, seconds, what):
    """The condition's first true value; an assertion with `what` after the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Job:
    """`unipool` with these arguments, alone (ranks = 0) or under the launcher."""

    def __init__(self, command, ranks=0, launcher_options=(), environment=None):
        words = [support.PROGRAM] + [str(word) for word in command]
        if ranks:
            words = [support.LAUNCHER, *launcher_options, "-np", str(ranks)] + words
        # A mark that ranks inherit, to find them by.
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.ranks = max(1, ranks)
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, UNIPOOL_TEST_MARK=self.mark, **(environment or {})))

    def pid_of(self, rank):
        """The process of a rank, 0 while there is none."""
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            environment = environment_of(pid)
            if environment.get("UNIPOOL_TEST_MARK") != self.mark or not is_alive(pid):
                continue
            try:
                program = os.readlink(folder / "exe")
            except OSError:
                continue
            is_rank = environment.get("OMPI_COMM_WORLD_RANK", "0") == str(rank)
            if is_rank and os.path.realpath(support.PROGRAM) == program:
                return pid
        return 0

    def signal_rank(self, rank, number):
        os.kill(wait_for(lambda: self.pid_of(rank), 30, f"rank {rank} is there"), number)

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self, seconds=60):
        """(exit status, standard output, standard error); an assertion after the time."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            output, errors = self.process.communicate()
            raise AssertionError(f"not ended within {seconds} s:\n{output}\n{errors}") from None
        return self.process.returncode, output, errors

    def kill(self):
        for rank in range(self.ranks):
            pid = self.pid_of(rank)
            if pid:
                os.kill(pid, signal.SIGKILL)
        self.process.kill()


PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207


def stop_thread(thread):
    """Stops one thread of a child and leaves its others running, as a device that does not answer
    does; it stays so until the child ends. An OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, ctypes.c_long(thread), None, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def last_step(run_dir):
    """Of metrics.jsonl; -1 while it has no whole line."""
    try:
        lines = pathlib.Path(run_dir, "metrics.jsonl").read_text().splitlines(keepends=True)
    except OSError:
        return -1
    whole = [line for line in lines if line.endswith("\n")]
    return support.json.loads(whole[-1])["step"] if whole else -1


def checkpoints(run_dir):
    return steps_in(pathlib.Path(run_dir, "checkpoints"))


def steps_in(folder):
    """Names of the checkpoints there, finished or not."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def finished_in(folder):
    """Names of the finished checkpoints there."""
    return {name for name in steps_in(folder) if not name.endswith(".tmp")}
