"""Tests check_layers.py on small trees: one with each kind of violation, and clean ones."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import check_layers  # noqa: E402

OP = "#pragma once\nstruct Norm {\n  static constexpr char kName[] = \"norm\";\n};\n"
HEADER = "#pragma once\n"
ANCHOR = ".md" + "#"  # in two parts, so that check_layers.py finds no citation in this file


class CheckLayers(unittest.TestCase):
    def violations(self, files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(text)
            return check_layers.Checker(root).check()

    def assert_found(self, name, text, place, expected):
        found = self.violations({name: text})
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(place + ": "), found[0])
        self.assertIn(expected, found[0])

    def assert_clean(self, files):
        self.assertEqual(self.violations(files), [])

    def test_allowed_includes_are_clean(self):
        self.assert_clean({
            "CMakeLists.txt": "", "README.md": "x\n" * 300, ".gitignore": "",
            "runtime/tensor.h": HEADER,
            "runtime/ops/norm.h": OP + '#include "runtime/tensor.h"\n',
            "runtime/ops/norm_cpu.cc": '#include "runtime/ops/norm.h"\n#include <cblas.h>\n',
            "runtime/ops/norm_cuda.cu": "#include <cuda_runtime.h>\n#include <cub/cub.cuh>\n",
            "runtime/kernel_cuda.h": HEADER + "#include <cuda_bf16.h>\n",
            "runtime/stream_cuda.cc": '#include "runtime/kernel_cuda.h"\n',
            "comm/mpi_communicator.cc": "#include <mpi.h>\n#include <glog/logging.h>\n",
            "model/block.cc": '#include "comm/a.h"\n#include "configs/run.pb.h"\n#if 1\n#endif\n',
            "launch/train/trainer.h": HEADER + '#include "model/block.h"\n#include "data/a.h"\n',
            "tests/a_test.cc": '#include <gtest/gtest.h>\n#include "tools/b.h"\n#include <mpi.h>\n',
            "build/launch/generated.h": "#if 1\n", "runs/x/y.py": "x" * 200,
        })

    def test_floors(self):
        upward = '#include <vector>\n\n#include "model/router.h"\n'
        self.assert_found("runtime/a.cc", upward, "runtime/a.cc:3", "only headers of runtime")
        self.assert_found("comm/a.cc", upward, "comm/a.cc:3", "only headers of comm, runtime")
        self.assert_found("comm/a.cc", '#include "data/b.h"', "comm/a.cc:1", "comm, runtime")
        self.assert_found("data/a.cc", '#include "comm/b.h"', "data/a.cc:1", "data, runtime")
        self.assert_found("model/a.cc", '#include "data/b.h"', "model/a.cc:1", "model, comm")
        self.assert_found("launch/a.cc", '#include "tools/b.h"', "launch/a.cc:1", "launch, model")
        self.assert_found("runtime/a.cc", "#  include <launch/b.h>", "runtime/a.cc:1", "runtime")
        self.assert_found("tools/a.cc", '#include "tests/b.h"', "tools/a.cc:1", "tools, launch")

    def test_rooms(self):
        self.assert_found("launch/world/a.cc", '#include "launch/train/b.h"', "launch/world/a.cc:1",
                          "only headers of launch/world, launch/config inside of this floor")
        self.assert_found("launch/analysis/a.cc", '#include "launch/train/b.h"',
                          "launch/analysis/a.cc:1", "only headers of launch/analysis")
        self.assert_found("data/a.cc", '#include "data/prepare/b.h"', "data/a.cc:1", "of data")
        self.assert_found("runtime/a.cc", '#include "runtime/ops/b.h"', "runtime/a.cc:1", "runtime")
        self.assert_clean({"launch/unipool.cc": '#include "launch/commands/a.h"\n',
                           "launch/train/a.cc": '#include "launch/world/b.h"\n',
                           "data/prepare/a.cc": '#include "data/b.h"\n'})

    def test_doors(self):
        for name, header in [
                ("comm/token_exchange.cc", "mpi.h"), ("comm/mpi_communicator.h", "mpi.h"),
                ("runtime/device.cc", "nccl.h"), ("comm/nccl_communicator.h", "nccl.h"),
                ("runtime/stream.cc", "cuda_runtime.h"), ("runtime/ops/gemm.h", "cuda_bf16.h"),
                ("runtime/stream.cc", "runtime/kernel_cuda.h"),
                ("model/linear.cc", "cblas.h"), ("runtime/ops/gemm_cpu.cc", "cublas_v2.h"),
                ("comm/nccl_communicator.cc", "cublasLt.h"),
                ("runtime/cudnn_cuda.cc", "cudnn_frontend.h"),
                ("model/router.h", "configs/run.pb.h"),
                ("data/tokenizer.cc", "google/protobuf/message.h"),
                ("runtime/ops/gemm_cuda.cu", "glog/logging.h"), ("model/block.h", "glog/logging.h"),
                ("tools/bench.cc", "gtest/gtest.h"), ("launch/train/trainer.cc", "gmock/gmock.h"),
                ("runtime/rng.cc", "benchmark/benchmark.h")]:
            text = (HEADER if name.endswith(".h") else "\n") + f"#include <{header}>\n"
            self.assert_found(name, text, f"{name}:2", f"includes {header}")

    def test_ops_do_not_include_ops(self):
        found = self.violations({"runtime/ops/norm.h": OP,
                                 "runtime/ops/gemm_cpu.cc": '#include "runtime/ops/norm.h"\n'})
        self.assertEqual(len(found), 1, found)
        self.assertIn("runtime/ops/gemm_cpu.cc:1: includes runtime/ops/norm.h", found[0])

    def test_headers(self):
        self.assert_found("runtime/a.h", "int x;\n", "runtime/a.h:1", "no #pragma once")
        for line in ("#if X", "#ifdef X", "# ifndef X"):
            self.assert_found("runtime/a.h", HEADER + line + "\n", "runtime/a.h:2", "conditional")

    def test_includes_start_at_the_root(self):
        found = self.violations({"runtime/a.h": HEADER, "runtime/a.cc": '#include "a.h"\n'})
        self.assertEqual(found, ["runtime/a.cc:1: includes a.h, expected runtime/a.h"])

    def test_sizes(self):
        self.assert_found("data/a.cc", "\n" * 501, "data/a.cc:501", "at most 500")
        self.assert_found("data/a.py", "\n#" + "x" * 100 + "\n", "data/a.py:2", "at most 100")
        self.assert_found("data/README.md", "\n" * 161, "data/README.md:161", "at most 160")
        self.assert_clean({"data/a.cc": "\n" * 499 + "//" + "\u00e4" * 98 + "\n"})

    def test_top_level(self):
        self.assert_found("util/a.txt", "", "util:1", "entry at the top level")
        self.assert_found("notes.txt", "", "notes.txt:1", "entry at the top level")

    def test_citations(self):
        cite = "model/method" + ANCHOR
        method = {"model/method.md": "# Method\n\n## Pool loss\n\n## `k`: Ties, again!\n"}
        self.assert_clean({**method, "comm/a.h": HEADER + f"// {cite}pool-loss.\n",
                           "comm/a.py": f"# {cite}k-ties-again, https://x.org/a{ANCHOR}none\n",
                           "model/b.md": f"As `method{ANCHOR}pool-loss` says.\n"})
        for name in ("comm/a.cc", "comm/a.py", "comm/a.sh", "configs/a.proto", "comm/a.md"):
            for text, expected in ((f"\n// {cite}pool\n", "a heading #pool in model/method.md"),
                                   (f"\n// comm/none{ANCHOR}x\n", "a file comm/none.md")):
                found = self.violations({**method, name: text})
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith(f"{name}:2: refers to "), found[0])
                self.assertIn(expected, found[0])

    def test_headings_of_the_same_text_are_numbered(self):
        text = "# A\n## Run\n```\n# no heading\n```\n## Run\n[x](#run-1) "
        self.assert_clean({"README.md": text + "[y](#run)\n"})
        self.assert_found("README.md", text + "[y](#run-2)\n", "README.md:7", "a heading #run-2")
        self.assert_found("README.md", text + "[y](#no-heading)\n", "README.md:7", "#no-heading")

    def test_links(self):
        files = {"data/a.md": "# One two\n", "tools/x.py": ""}
        lines = [f"[a](a.md) [b](../data/a{ANCHOR}one-two \"title\") ![c](../tools/x.py)",
                 f"[web](https://x.org/a{ANCHOR}none) [mail](mailto:a) [folder](../tools)",
                 f"`[x](none)` [a link\nover lines](a{ANCHOR}one-two)",
                 "```", "[x](none.md)", "```"]
        self.assert_clean({**files, "data/b.md": "\n".join(lines)})
        for link, expected in (("none.md", "a file data/none.md"),
                               (f"a{ANCHOR}two", "a heading #two in data/a.md"),
                               ("data/a.md", "a file data/data/a.md"),
                               ("../y.svg", "a file y.svg")):
            found = self.violations({**files, "data/b.md": f"\n\nsee [text]({link})\n"})
            self.assertEqual(len(found), 1, found)
            self.assertTrue(found[0].startswith(f"data/b.md:3: refers to {link}"), found[0])
            self.assertIn(expected, found[0])


if __name__ == "__main__":
    unittest.main()
