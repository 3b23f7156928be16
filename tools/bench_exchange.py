#!/usr/bin/env python3
"""How much of the exchange compute hides over a network of a given rate: two hosts (namespaces on
this machine, tests/cluster/hosts.sh) of one rank and one thread each, and the same training step
with rows in 1, 2, 4 and 8 chunks. Needs root and a build."""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
import cluster_support as cluster  # noqa: E402

CHUNKS = (1, 2, 4, 8)


def measure(command, chunks):
    """Median seconds of a step, and of its exchange that nothing hid."""
    done = subprocess.run(command + ["--set", f"parallel.exchange_chunks={chunks}"],
                          capture_output=True, text=True, check=False)
    step = re.search(r"^step +([\d.]+)", done.stdout, re.MULTILINE)
    exposed = re.search(r"^exposed +([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not step or not exposed:
        sys.exit(f"bench_exchange.py: `unipool bench step` failed:\n{done.stdout}{done.stderr}")
    return float(step[1]), float(exposed[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="1000mbit", help="of each host's network, as tc has it")
    parser.add_argument("--config", default="configs/quickstart.textproto")
    parser.add_argument("--steps", type=int, default=10, help="measured, each time")
    parser.add_argument("--rounds", type=int, default=3, help="times that each number has its turn")
    parser.add_argument("--build", default="build", help="folder of the build")
    arguments = parser.parse_args()
    reason = cluster.cannot_run("tc")
    if reason:
        sys.exit(f"bench_exchange.py: {reason}")
    program = ROOT / arguments.build / "launch" / "unipool"
    if not program.exists():
        sys.exit(f"bench_exchange.py: {program} is missing: expected a build")
    config = str(pathlib.Path(arguments.config).resolve())
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds = {chunks: [] for chunks in CHUNKS}
    with cluster.up(cluster.HOSTS, 2) as hosts:
        for host in hosts:
            cluster.call(cluster.HOSTS, "rate", host, arguments.rate)
        command = cluster.mpirun_on(hosts) + [
            str(program), "bench", "step", "--config", config,
            "--threads", "1", "--steps", str(arguments.steps)]
        for _ in range(arguments.rounds):
            for chunks in CHUNKS:
                seconds[chunks].append(measure(command, chunks))
    print(f"two hosts, {arguments.rate}, medians of {arguments.rounds} x {arguments.steps} steps")
    print("chunks    step s    exposed s")
    for chunks, pairs in seconds.items():
        step, exposed = (statistics.median(values) for values in zip(*pairs))
        print(f"{chunks:6}    {step:.4f}    {exposed:.4f}")


if __name__ == "__main__":
    main()
