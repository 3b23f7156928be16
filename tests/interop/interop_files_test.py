#!/usr/bin/env python3
"""`unipool` reads the files that megatron-core writes: all types of ids, several sequences in a
document, multimodal indexes of text. What it refuses, it refuses in one line."""
import json
import pathlib
import sys
import tempfile
import unittest

import interop_support as interop
import megatron_setups as setups

DOCUMENTS = [[[72, 105, 5], [33]], [[97, 98]], [[7, 6, 5, 4]]]
INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16")


class MegatronFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.prefix = str(pathlib.Path(folder.name, "x"))

    def write(self, dtype="int32", modes=None, end=True):
        """Lets the library write the files; returns its answer and what `unipool` says of them."""
        answer = library.ask({"prefix": self.prefix, "dtype": dtype, "documents": DOCUMENTS,
                              "modes": modes, "end": end})
        return answer, setups.support.run(["data", "inspect", self.prefix, "--json", "--scan"])

    def expect_read(self, **words):
        answer, done = self.write(**words)
        self.assertEqual(done.returncode, 0, done.stderr)
        view = json.loads(done.stdout)
        self.assertEqual([view["documents"], view["sequences"], view["tokens"]], [3, 4, 10])
        self.assertEqual(view["dtype"], words.get("dtype", "int32"))
        self.assertEqual(view["beginning"]["ids"], answer["read"][0])
        self.assertEqual([view["scan"]["least_id"], view["scan"]["most_id"]], [4, 105])

    def expect_refused(self, words, expected):
        done = self.write(**words)[1]
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn(expected, done.stderr)

    def test_all_types_of_integers_are_read(self):
        for dtype in INTEGERS:
            with self.subTest(dtype=dtype):
                self.expect_read(dtype=dtype)

    def test_floating_point_numbers_are_refused_by_name(self):
        for dtype in ("float32", "float64"):
            self.expect_refused({"dtype": dtype}, f"({dtype}) at byte 17, expected an integer type")

    def test_a_multimodal_index_is_read_if_it_is_text(self):
        self.expect_read(modes=[0, 0, 0, 0])
        self.expect_refused({"modes": [0, 0, 1, 0]}, "sequence 2 has mode 1")

    def test_a_document_that_was_never_ended_is_refused_by_both(self):
        self.assertIn("refused", self.write(end=False)[0])
        self.expect_refused({"end": False}, "the last document was never ended")


if __name__ == "__main__":
    with interop.Library("megatron_files.py") as library:
        finished = unittest.main(exit=False)
    sys.exit(0 if finished.result.wasSuccessful() else 1)
