#!/usr/bin/env python3
"""Checks what the compiler cannot: which folder includes which (the floors), where foreign headers
may appear (the doors), sizes of files, the entries at the top level, and references to documents:
a citation (the path of a Markdown file, #, an anchor) in any source, script or document, and a
relative link in Markdown, must point to a file and a heading that exist.

usage: check_layers.py [ROOT]     prints FILE:LINE: what, expected ...; exits 1 if there is any
"""
import os
import re
import subprocess
import sys

TOP_LEVEL = {"CMakeLists.txt", "README.md", "LICENSE", "runtime", "model", "comm", "data", "launch",
             "configs", "tests", "tools"}

# A folder may include itself and these. tools and tests may include anything.
FLOORS = {
    "configs": [],
    "runtime": [],
    "comm": ["runtime"],
    "data": ["runtime"],
    "model": ["comm", "runtime", "configs"],
    "launch": ["model", "comm", "data", "runtime", "configs"],
    "tools": ["launch", "model", "comm", "data", "runtime", "configs"],
    "tests": ["tools", "launch", "model", "comm", "data", "runtime", "configs"],
}

# Folders inside of a floor, each with the folders of the same floor that it may include beside
# itself. The floor's own files (launch/unipool.cc) may include any of them.
ROOMS = {
    "launch/config": [],
    "launch/world": ["launch/config"],
    "launch/checkpoint": ["launch/config", "launch/world"],
    "launch/analysis": ["launch/config", "launch/world", "launch/checkpoint"],
    "launch/train": ["launch/config", "launch/world", "launch/checkpoint", "launch/analysis"],
    "launch/commands": ["launch/config", "launch/world", "launch/checkpoint", "launch/analysis",
                        "launch/train"],
    "runtime": [],
    "data": [],
    "data/prepare": ["data"],
    "runtime/ops": ["runtime"],
}

# Foreign header -> the files that may include it. What matches no door is open to all.
DOORS = [
    (r"mpi\.h", r"comm/mpi_(communicator|messenger)\.cc|launch/world/world\.cc|(tests|tools)/.*"),
    (r"nccl\.h", r"comm/nccl_functions\.h|(tests|tools)/.*"),
    (r"comm/nccl_functions\.h", r"comm/nccl_(communicator|functions)\.cc"),
    (r"cuda.*\.h(pp)?|cub/.*|mma\.h",
     r".*_cuda\.(cu|cc|h)|comm/nccl_communicator\.cc|(tests|tools)/.*"),
    (r"runtime/.*_cuda\.h",
     r".*_cuda\.(cu|cc|h)|comm/nccl_(communicator\.cc|functions\.h)|(tests|tools)/.*"),
    (r"cublas.*\.h", r"runtime/ops/.*_cuda\.cc|runtime/cublas_cuda\..*|(tests|tools)/.*"),
    (r"cudnn.*\.h", r"runtime/cudnn_graph_cuda\.cc|(tests|tools)/.*"),
    (r"cblas\.h", r"runtime/blas_cpu\.cc|runtime/ops/.*_cpu\.cc|(tests|tools)/.*"),
    (r".*\.pb\.h|google/protobuf/.*", r"(launch|model)/.*\.cc|(tests|tools)/.*"),
    (r"nlohmann/.*", r"runtime/json\.cc"),
    (r"glog/.*", r".*\.cc|runtime/ops/compute\.h"),
    (r"(gtest|gmock)/.*", r"tests/.*"),
    (r"benchmark/.*", r"(tests|tools)/.*"),
]

CODE = (".h", ".cc", ".cu", ".py", ".sh", ".proto")
CXX = (".h", ".cc", ".cu")
MAX_LINES = 500
MAX_README_LINES = 160
MAX_COLUMNS = 100

CITING = CODE + (".md", ".cmake", ".txt", ".sbatch", ".textproto", ".in")
CITATION = re.compile(r"(?<![\w./:-])[\w.][\w./-]*\.md#[\w-]+(?:\.\w+)*")
# Inline links and images; what follows the address may be a title.
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)[^()]*\)")
EXTERNAL = re.compile(r"[a-z]+:")
INCLUDE = re.compile(r'\s*#\s*include\s*[<"]([^>"]+)[>"]')
CONDITIONAL = re.compile(r"\s*#\s*(if|ifdef|ifndef)\b")
OP_NAME = re.compile(r"static constexpr char kName\[\]")


def tracked_files(root):
    """Files of the checkout that git does not ignore, or of the folder where there is no git."""
    try:
        top = subprocess.run(["git", "-C", root, "rev-parse", "--show-toplevel"], check=True,
                             capture_output=True, text=True).stdout.strip()
        if os.path.realpath(top) == os.path.realpath(root):
            listed = subprocess.run(
                ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"],
                check=True, capture_output=True, text=True).stdout.splitlines()
            return sorted(name for name in listed if os.path.isfile(os.path.join(root, name)))
    except (OSError, subprocess.CalledProcessError):
        pass
    found = []
    for folder, folders, names in os.walk(root):
        if folder == root:
            folders[:] = [name for name in folders
                          if not name.startswith(("build", ".")) and
                          name not in ("runs", "third_party")]
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(found)


def without_code(lines):
    """The text of a Markdown file with fenced blocks and inline code blanked, line by line."""
    fenced, kept = False, []
    for line in lines:
        is_fence = line.lstrip().startswith("```")
        kept.append("" if fenced or is_fence else re.sub(r"`[^`]*`", "", line))
        fenced ^= is_fence
    return "\n".join(kept)


def anchors_of(lines):
    """The anchors of a Markdown file: those written as <a id="...">, and GitHub's of its headings:
    lower case, punctuation removed, spaces as hyphens, and a number after the second and later ones
    of the same text."""
    fenced = False
    anchors = {anchor for line in lines for anchor in re.findall(r'<a id="([^"]+)">', line)}
    for line in lines:
        fenced ^= line.lstrip().startswith("```")
        match = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if fenced or not match:
            continue
        text = LINK.sub(lambda m: m[0][1:m[0].index("]")], match[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        anchor = slug
        while anchor in anchors:
            anchor, number = f"{slug}-{number}", number + 1
        anchors.add(anchor)
    return anchors


class Checker:
    def __init__(self, root):
        self.root = root
        self.violations = []
        self.anchors = {}  # of Markdown files that were referred to

    def report(self, name, line, what, expected):
        self.violations.append(f"{name}:{line}: {what}, expected {expected}")

    def lines(self, name):
        with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as stream:
            return stream.read().splitlines()

    def check(self):
        names = tracked_files(self.root)
        for top in sorted({name.split("/")[0] for name in names}):
            if top not in TOP_LEVEL and not top.startswith("."):
                self.report(top, 1, "entry at the top level", "one of " +
                            " ".join(sorted(TOP_LEVEL)) + " or a dot-file")
        for name in names:
            if name.endswith(CODE) or name.endswith("README.md"):
                self.check_size(name, self.lines(name))
            if name.endswith(CXX):
                self.check_source(name, self.lines(name))
            if name.endswith(CITING):
                self.check_references(name, self.lines(name))
        return self.violations

    def check_size(self, name, lines):
        is_room_readme = name.endswith("/README.md")
        ceiling = MAX_README_LINES if is_room_readme else MAX_LINES
        if len(lines) > ceiling:
            self.report(name, len(lines), f"{len(lines)} lines", f"at most {ceiling}")
        if not name.endswith(CODE):
            return
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS:
                self.report(name, number, f"{len(line)} columns", f"at most {MAX_COLUMNS}")

    def check_source(self, name, lines):
        is_header = name.endswith(".h")
        if is_header and not any(line.startswith("#pragma once") for line in lines):
            self.report(name, 1, "no #pragma once", "it before the first include")
        for number, line in enumerate(lines, 1):
            if is_header and CONDITIONAL.match(line):
                self.report(name, number, line.strip(), "no conditional code in a header")
            match = INCLUDE.match(line)
            if match:
                self.check_include(name, number, match.group(1))

    def check_references(self, name, lines):
        """Citations count from the root of the repository, or else from the file's own folder, as
        do all links."""
        for number, line in enumerate(lines, 1):
            for target in CITATION.findall(LINK.sub("", line) if name.endswith(".md") else line):
                beside = os.path.join(os.path.dirname(name), target.split("#")[0])
                is_beside = not os.path.exists(os.path.join(self.root, target.split("#")[0])) and \
                    os.path.exists(os.path.join(self.root, beside))
                self.check_target(name, number, os.path.dirname(beside) if is_beside else "",
                                  os.path.basename(target) if is_beside else target)
        if not name.endswith(".md"):
            return
        text = without_code(lines)
        for match in LINK.finditer(text):
            if EXTERNAL.match(match[1]):
                continue
            target = name.split("/")[-1] + match[1] if match[1].startswith("#") else match[1]
            self.check_target(name, text.count("\n", 0, match.start(1)) + 1,
                              os.path.dirname(name), target)

    def check_target(self, name, number, folder, target):
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(folder, path))
        if not os.path.exists(os.path.join(self.root, path)):
            self.report(name, number, f"refers to {target}", f"a file {path}")
        elif anchor:
            if path not in self.anchors:
                self.anchors[path] = anchors_of(self.lines(path))
            if anchor not in self.anchors[path]:
                self.report(name, number, f"refers to {target}", f"a heading #{anchor} in {path}")

    def check_include(self, name, number, header):
        own, other = name.split("/")[0], header.split("/")[0]
        what = f"includes {header}"
        if other in FLOORS and "/" in header:
            allowed = [own] + FLOORS.get(own, [])
            if other not in allowed:
                self.report(name, number, what, f"only headers of {', '.join(allowed)}")
            self.check_room(name, number, header)
            self.check_op(name, number, header)
        elif os.path.exists(os.path.join(self.root, os.path.dirname(name), header)):
            self.report(name, number, what, f"{os.path.dirname(name)}/{header}")
        for door, files in DOORS:
            if re.fullmatch(door, header) and not re.fullmatch(files, name):
                self.report(name, number, what, f"it only in files that match {files}")

    def check_room(self, name, number, header):
        """Inside of a floor, includes run from its upper rooms to its lower ones."""
        own, other = os.path.dirname(name), os.path.dirname(header)
        if own not in ROOMS or own.split("/")[0] != other.split("/")[0]:
            return
        allowed = [own] + ROOMS[own]
        if other not in allowed:
            self.report(name, number, f"includes {header}",
                        f"only headers of {', '.join(allowed)} inside of this floor")

    def check_op(self, name, number, header):
        """An op is self-contained: its files include no other op's header."""
        path = os.path.join(self.root, header)
        if not name.startswith("runtime/ops/") or not header.startswith("runtime/ops/"):
            return
        if os.path.basename(name).startswith(os.path.basename(header)[:-2]):
            return
        if os.path.exists(path) and any(OP_NAME.search(line) for line in self.lines(header)):
            self.report(name, number, f"includes {header}", "no other op's header in an op")


def main():
    default = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    violations = Checker(sys.argv[1] if len(sys.argv) > 1 else default).check()
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
