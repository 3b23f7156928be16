#!/usr/bin/env python3
"""Measures exposed communication over a network of a given rate: the time of a training step, and
the part of its exchange that does not overlap with compute, with rows split into 1, 2, 4 and 8
chunks. Uses two hosts, emulated on this machine (tests/cluster/hosts.sh), with one rank and one
thread each. Needs root and a build."""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT / "tests" / "support")]
import cluster_support as cluster  # noqa: E402

CHUNKS = (1, 2, 4, 8)


def measure(command, chunks):
    """Runs `unipool bench step`; returns median seconds of a step and of its exposed exchange."""
    done = subprocess.run(command + ["--set", f"parallel.exchange_chunks={chunks}"],
                          capture_output=True, text=True, check=False)
    step = re.search(r"^step +([\d.]+)", done.stdout, re.MULTILINE)
    exposed = re.search(r"^exposed +([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not step or not exposed:
        sys.exit(f"bench_exchange.py: `unipool bench step` failed:\n{done.stdout}{done.stderr}")
    return float(step[1]), float(exposed[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="1000mbit",
                        help="rate of each host's network, in the format of tc (%(default)s)")
    parser.add_argument("--config", default="configs/quickstart.textproto",
                        help="config of the run (%(default)s)")
    parser.add_argument("--steps", type=int, default=10,
                        help="measured steps per run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3,
                        help="runs of each number of chunks (%(default)s)")
    parser.add_argument("--build", default="build", help="build folder (%(default)s)")
    arguments = parser.parse_args()
    reason = cluster.cannot_run("tc")
    if reason:
        sys.exit(f"bench_exchange.py: {reason}")
    program = ROOT / arguments.build / "launch" / "unipool"
    if not program.exists():
        sys.exit(f"bench_exchange.py: {program} does not exist; build it or give --build")
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
