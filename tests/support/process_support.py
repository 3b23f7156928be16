"""Support for tests that send signals to a running `unipool train`: start, observe and end it, each
with a timeout."""
import ctypes
import os
import pathlib
import signal
import subprocess
import time

import command_support as support

# A run so long that a signal arrives before its end, which writes only small files.
LONG = {"steps": 100000, "eval.every_steps": 0, "checkpoint.save_final": "true",
        "checkpoint.every_steps": 0}

# Environment of a run whose saves take long enough to be interrupted (tests/support/slow_disk.cc).
SLOW_DISK = {"LD_PRELOAD": os.environ.get("UNIPOOL_SLOW_DISK", str(
    support.ROOT / "build" / "tests" / "libslow_disk.so"))}


def state(pid):
    """The state of a process as a letter of /proc, "" if there is none; Z is a dead process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def is_alive(pid):
    return state(pid) not in ("", "Z", "X")


def environment_of(pid):
    """The environment of a process as a dict; empty if it cannot be read."""
    try:
        data = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in data.decode(errors="replace").split("\0")
                if "=" in entry)


def wait_for(condition, seconds, what):
    """Waits until condition() is true and returns its value; after `seconds` raises an
    AssertionError that names `what`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"timeout after {seconds} s: {what}")


class Job:
    """A running `unipool COMMAND...`: one process if ranks is 0, else under the launcher."""

    def __init__(self, command, ranks=0, launcher_options=(), environment=None, preexec_fn=None):
        words = [support.PROGRAM] + [str(word) for word in command]
        if ranks:
            words = [support.LAUNCHER, *launcher_options, "-np", str(ranks)] + words
        # The ranks inherit this mark, by which pid_of finds them.
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.ranks = max(1, ranks)
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=preexec_fn,
            env=dict(os.environ, UNIPOOL_TEST_MARK=self.mark, **(environment or {})))

    def pid_of(self, rank):
        """The process id of a rank; 0 if it does not run."""
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
        os.kill(wait_for(lambda: self.pid_of(rank), 30, f"process of rank {rank}"), number)

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self, seconds=60):
        """Waits for the end and returns (exit status, standard output, standard error). After
        `seconds` kills the job and raises an AssertionError."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            output, errors = self.process.communicate()
            raise AssertionError(f"still running after {seconds} s:\n{output}\n{errors}") from None
        return self.process.returncode, output, errors

    def kill(self):
        for rank in range(self.ranks):
            pid = self.pid_of(rank)
            if pid:
                os.kill(pid, signal.SIGKILL)
        self.process.kill()


def exchange(one, other):
    """Exchanges two paths atomically, so that no process finds either of them missing."""
    at_cwd, flags = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    done = ctypes.CDLL(None, use_errno=True).renameat2(at_cwd, os.fsencode(one), at_cwd,
                                                       os.fsencode(other), flags)
    assert done == 0, f"{one}, {other}: {os.strerror(ctypes.get_errno())}"


PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207


def stop_thread(thread):
    """Stops one thread of a child process until the child ends; its other threads continue. This
    imitates a device that does not answer. Raises OSError if ptrace is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, ctypes.c_long(thread), None, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def last_step(run_dir):
    """The step of the last complete line of metrics.jsonl; -1 if there is none."""
    try:
        lines = pathlib.Path(run_dir, "metrics.jsonl").read_text().splitlines(keepends=True)
    except OSError:
        return -1
    whole = [line for line in lines if line.endswith("\n")]
    return support.json.loads(whole[-1])["step"] if whole else -1


def checkpoints(run_dir):
    """Sorted names of the checkpoints of a run, finished or not."""
    return steps_in(pathlib.Path(run_dir, "checkpoints"))


def steps_in(folder):
    """Sorted names of the checkpoints in a folder, finished or not."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def finished_in(folder):
    """Names of the finished checkpoints in a folder."""
    return {name for name in steps_in(folder) if not name.endswith(".tmp")}
