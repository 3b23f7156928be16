"""What the tests on several hosts share: the hosts (hosts.sh), a Slurm over them (slurm.sh), and
why a test cannot run here."""
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
    """Why this machine cannot take the part of a cluster, or nothing."""
    if os.geteuid() != 0:
        return "hosts are namespaces, which only root can make"
    if pathlib.Path(tempfile.gettempdir()).resolve().is_relative_to("/dev/shm"):
        return "the folder for temporary files is in /dev/shm, of which each host has its own"
    for program in ("ip", "nsenter", "unshare", "mpirun") + programs:
        if shutil.which(program) is None:
            return f"{program} is not installed (tools/setup.sh --cluster)"
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
    """The output of a command that must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def up(script, count):
    """The script's `up COUNT` until the end. Daemons must not hold the pipe of an output."""
    subprocess.run([script, "down"], capture_output=True, check=False)
    try:
        subprocess.run([script, "up", str(count)], check=True, stdout=subprocess.DEVNULL,
                       timeout=60)
        yield [f"h{i + 1}" for i in range(count)]
    finally:
        subprocess.run([script, "down"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=False)


def mpirun_on(names, slots=1, restarts=0):
    """The command that starts one program over the hosts, up to the program."""
    return [HOSTS, "head", "env", f"PATH={os.environ['PATH']}", support.LAUNCHER,
            "--restarts", str(restarts), "-np", str(slots * len(names)),
            "--host", ",".join(f"{name}:{slots}" for name in names),
            "--mca", "plm_rsh_agent", call(HOSTS, "agent").strip(),
            "--mca", "btl_tcp_if_include", NETWORK, "--mca", "oob_tcp_if_include", NETWORK]
