"""Support for tests on several hosts: starts the hosts (hosts.sh) and a Slurm on them (slurm.sh),
and finds out whether this machine can run such tests."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import command_support as support

HERE = pathlib.Path(__file__).resolve().parent
HOSTS = str(HERE / "hosts.sh")
SLURM = str(HERE / "slurm.sh")
NETWORK = "10.77.0.0/24"


def cannot_run(*programs):
    """The reason why this machine cannot emulate a cluster, or None; `programs` are needed too."""
    if os.geteuid() != 0:
        return "only root can create the namespaces that emulate hosts"
    if pathlib.Path(tempfile.gettempdir()).resolve().is_relative_to("/dev/shm"):
        return "the folder for temporary files is in /dev/shm, which hosts do not share; set TMPDIR"
    for program in ("ip", "nsenter", "unshare", "mpirun") + programs:
        if shutil.which(program) is None:
            return f"{program} is not installed; run tools/setup.sh --cluster"
    for probe in (["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"],
                  ["ip", "netns", "add", "unipool-probe"], ["ip", "netns", "del", "unipool-probe"]):
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(probe)}: {done.stderr.strip()}"
    return None


def skip_unless_possible(*programs):
    reason = cannot_run(*programs)
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)


def call(*words, timeout=60):
    """Runs a command that must succeed and returns its standard output."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def up(script, count):
    """Runs `SCRIPT up COUNT`, yields the names of the hosts, and runs `SCRIPT down` at the end."""
    subprocess.run([script, "down"], capture_output=True, check=False)
    try:
        # No pipe, since the daemons that `up` starts would keep it open.
        subprocess.run([script, "up", str(count)], check=True, stdout=subprocess.DEVNULL,
                       timeout=60)
        yield [f"h{i + 1}" for i in range(count)]
    finally:
        subprocess.run([script, "down"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=False)


def mpirun_on(names, slots=1, restarts=0):
    """The words of a command that starts ranks on these hosts; the program follows."""
    return [HOSTS, "head", "env", f"PATH={os.environ['PATH']}", support.LAUNCHER,
            "--restarts", str(restarts), "-np", str(slots * len(names)),
            "--host", ",".join(f"{name}:{slots}" for name in names),
            "--mca", "plm_rsh_agent", call(HOSTS, "agent").strip(),
            "--mca", "btl_tcp_if_include", NETWORK, "--mca", "oob_tcp_if_include", NETWORK]
