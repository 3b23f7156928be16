#!/usr/bin/env python3
"""Prints registers, spilled bytes, stack and shared memory of each kernel, from the reports of
ptxas that a build keeps beside its object files (*.ptxas).

usage: kernel_resources.py BUILD
Exit status: 1 if a kernel spills registers or ptxas serialized its wgmma instructions, 2 if BUILD
has no report.
"""
import os
import re
import subprocess
import sys

COMPILING = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
SERIALIZED = re.compile(r"wgmma.mma_async instructions are serialized .* function '(\S+)'")


def parse(text):
    """Returns a dict per kernel and architecture: name, arch, registers, spills, stack, shared."""
    kernels = []
    for line in text.splitlines():
        compiling, stack, used = COMPILING.search(line), STACK.search(line), USED.search(line)
        if compiling:
            kernels.append({"name": compiling[1], "arch": compiling[2], "registers": 0, "spills": 0,
                            "stack": 0, "shared": 0})
        elif stack and kernels and not kernels[-1]["registers"]:
            kernels[-1]["stack"] = int(stack[1])
            kernels[-1]["spills"] = int(stack[2]) + int(stack[3])
        elif used and kernels:
            kernels[-1]["registers"] = int(used[1])
            shared = SHARED.search(line)
            kernels[-1]["shared"] = int(shared[1]) if shared else 0
    return kernels


def readable(names):
    """Demangles names, without namespaces and arguments; returns them unchanged without c++filt."""
    try:
        lines = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                               check=True).stdout.splitlines()
    except OSError:
        return names
    short = [line.replace("(anonymous namespace)::", "").replace("unipool::", "") for line in lines]
    return [re.sub(r"\(.*$", "", re.sub(r"^void ", "", re.sub(r"\((int|bool)\)", "", line)))
            for line in short]


def reports(build):
    """Yields (name of the source, text) of each report in a build folder."""
    for folder, _, names in sorted(os.walk(build)):
        for name in sorted(names):
            if name.endswith(".ptxas"):
                with open(os.path.join(folder, name), encoding="utf-8") as stream:
                    yield name.split(".")[0], stream.read()


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: kernel_resources.py BUILD", file=sys.stderr)
        return 2
    kernels = [dict(kernel, file=name) for name, text in reports(sys.argv[1])
               for kernel in parse(text)]
    if not kernels:
        print(f"{sys.argv[1]} has no *.ptxas report of a kernel; give the folder of a build with "
              "CUDA")
        return 2
    print(f"{'registers':>9} {'spills':>6} {'stack':>5} {'shared':>6} {'arch':>7}  kernel")
    for kernel, name in zip(kernels, readable([kernel["name"] for kernel in kernels])):
        print(f"{kernel['registers']:>9} {kernel['spills']:>6} {kernel['stack']:>5} "
              f"{kernel['shared']:>6} {kernel['arch']:>7}  {kernel['file']}: {name}")
    spilling = [kernel for kernel in kernels if kernel["spills"]]
    serialized = [name for _, text in reports(sys.argv[1]) for name in SERIALIZED.findall(text)]
    for name in readable(serialized):
        print(f"{name}: ptxas serialized its wgmma instructions")
    print(f"{len(kernels)} kernels: {len(spilling)} spill registers, {len(serialized)} have "
          "serialized wgmma")
    return 1 if spilling or serialized else 0


if __name__ == "__main__":
    sys.exit(main())
