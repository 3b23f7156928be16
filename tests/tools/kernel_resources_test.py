"""Tests that tools/kernel_resources.py reads the reports of ptxas and fails if a kernel spills."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools",
                    "kernel_resources.py")

REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN7unipool3AddIfEEvPT_' for 'sm_90a'
ptxas info    : Function properties for _ZN7unipool3AddIfEEvPT_
    8 bytes stack frame, %d bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem
ptxas info    : Function properties for __internal_trig
    40 bytes stack frame, 16 bytes spill stores, 16 bytes spill loads
ptxas info    : Compiling entry function '_ZN7unipool4FillEPf' for 'sm_80'
ptxas info    : Function properties for _ZN7unipool4FillEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""


class KernelResources(unittest.TestCase):
    def run_tool(self, report):
        with tempfile.TemporaryDirectory() as build:
            if report is not None:
                with open(os.path.join(build, "add_cuda.cu.o.ptxas"), "w",
                          encoding="utf-8") as stream:
                    stream.write(report)
            run = subprocess.run([sys.executable, TOOL, build], capture_output=True, text=True,
                                 check=False)
        return run.returncode, run.stdout.splitlines()

    def test_prints_one_line_per_kernel_and_fails_if_one_spills(self):
        status, lines = self.run_tool(REPORT % 12)
        self.assertEqual(status, 1)
        self.assertEqual(lines[1].split()[:6], ["40", "16", "8", "128", "sm_90a", "add_cuda:"])
        self.assertEqual(lines[2].split()[:5], ["8", "0", "0", "0", "sm_80"])
        self.assertEqual(lines[-1], "2 kernels: 1 spill registers, 0 have serialized wgmma")

    def test_passes_if_no_kernel_spills(self):
        status, lines = self.run_tool((REPORT % 0).replace("4 bytes spill loads",
                                                           "0 bytes spill loads"))
        self.assertEqual((status, lines[-1]),
                         (0, "2 kernels: 0 spill registers, 0 have serialized wgmma"))

    def test_fails_if_wgmma_is_serialized(self):
        status, lines = self.run_tool(
            "ptxas info    : (C7520) Potential Performance Loss: wgmma.mma_async instructions are "
            "serialized due to something in the function '_ZN7unipool4FillEPf'\n" +
            (REPORT % 0).replace("4 bytes spill loads", "0 bytes spill loads"))
        self.assertEqual(status, 1)
        self.assertIn("serialized", lines[-2])
        self.assertEqual(lines[-1], "2 kernels: 0 spill registers, 1 have serialized wgmma")

    def test_a_folder_without_reports_is_an_error(self):
        status, lines = self.run_tool(None)
        self.assertEqual(status, 2)
        self.assertIn("give the folder of a build with CUDA", lines[0])


if __name__ == "__main__":
    unittest.main()
