#!/usr/bin/env python3
"""On a terminal a run overwrites one progress line, which is cut to the width of the terminal, also
under launch/mpirun.sh. Elsewhere it prints whole lines."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import unittest

import command_support as support


class TerminalTest(support.TextTest):
    def words(self, name, ranks):
        command = [support.PROGRAM] + support.train_command(
            self.prefix, os.path.join(self.folder.name, name), {"steps": 60})
        return ([support.LAUNCHER, "-np", str(ranks)] if ranks else []) + list(map(str, command))

    def on_terminal(self, name, ranks, columns):
        """What a run prints on a terminal of that width."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items()
                       if name != "UNIPOOL_TERMINAL"}
        with subprocess.Popen(self.words(name, ranks), stdout=slave, stderr=subprocess.DEVNULL,
                              env=environment) as process:
            os.close(slave)
            text = b""
            try:
                while part := os.read(master, 65536):
                    text += part
            except OSError:  # the other end is closed
                pass
            os.close(master)
            self.assertEqual(process.wait(60), 0)
        return text.decode()

    def test_the_live_line_fits_the_terminal(self):
        for ranks in (0, 2):
            for columns in (60, 132):
                with self.subTest(ranks=ranks, columns=columns):
                    text = self.on_terminal(f"live-{ranks}-{columns}", ranks, columns)
                    lines = [line for line in re.split(r"\r\x1b\[K|\r?\n", text)
                             if line.startswith("step ") and "ETA" in line]
                    self.assertGreater(len(lines), 1, text)
                    self.assertIn("\r\x1b[Kstep 60/60", text)
                    longest = max(map(len, lines))
                    self.assertLess(longest, columns)
                    self.assertGreater(longest, columns // 2)

    def test_lines_elsewhere_are_whole(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                done = subprocess.run(self.words(f"whole-{ranks}", ranks), capture_output=True,
                                      text=True, check=True)
                self.assertNotIn("\r", done.stdout)
                self.assertRegex(done.stdout, r"\nstep 60/60  loss \S+  ETA 0s  \d+ tokens/s  "
                                              r"\S+ ms  \d\d:\d\d:\d\d  .*lr \S+  norm \S+\n")


if __name__ == "__main__":
    unittest.main()
