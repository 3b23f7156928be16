#!/usr/bin/env python3
"""Tests tools/quickstart_corpus.py on a small tree of generated packages."""

import gzip
import json
import os
import pathlib
import random
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tools"))
import quickstart_corpus as corpus  # noqa: E402


def paragraphs(seed, count):
    words = random.Random(seed)
    return "\n\n".join(
        " ".join(f"w{words.randrange(1000)}" for _ in range(60)) for _ in range(count))


class QuickstartCorpusTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)

    def write(self, path, data):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def texts(self, kind):
        return [json.loads(line)["text"] for _, line, _ in corpus.gather(str(self.root), kind)]

    def test_documents_respect_size_limits_and_keep_the_text(self):
        text = paragraphs(1, 300) + "\n\n" + "x" * 100_000 + "\n\n" + paragraphs(2, 20)
        documents = list(corpus.documents_of(["small", text]))
        for document in documents:
            self.assertTrue(corpus.MIN_BYTES <= corpus.size(document) <= corpus.MAX_BYTES)
        joined = "".join("".join(documents).split())
        self.assertTrue(("small" + "".join(text.split())).startswith(joined))
        self.assertLess(len(text) - len("\n\n".join(documents)), corpus.MIN_BYTES)

    def test_small_files_are_joined(self):
        for i in range(10):
            self.write(f"usr/lib/python3.11/m{i}.py", f"# {i}\n{'y' * 500}\n".encode())
        texts = self.texts("python")
        self.assertEqual(len(texts), 2)
        self.assertTrue(all("# " in text for text in texts))

    def test_the_cap_holds_and_documents_are_deterministic(self):
        cap = corpus.KINDS["python"][0]
        for i in range(8):
            self.write(f"usr/lib/python3.11/{i}.py", paragraphs(i, 3000).encode())
        rows = corpus.gather(str(self.root), "python")
        self.assertTrue(0.99 * cap < sum(row[2] for row in rows) <= cap)
        self.assertEqual(rows, corpus.gather(str(self.root), "python"))

    def test_tags_and_head_of_html_are_removed(self):
        page = (b"<html><head><title>no</title></head><body><p>one &amp; <b>two</b></p>"
                b"<p>three</p></body>")
        self.assertEqual(corpus.read_html(page), "one & two\n\nthree")

    def test_comments_of_manual_pages_are_removed(self):
        roff = gzip.compress(b'\'\\" t\n.\\" licence\n.TH mmap 2\nmaps\n')
        self.assertEqual(corpus.read_manual(roff), ".TH mmap 2\nmaps")

    def test_decode_normalizes_text(self):
        self.assertEqual(corpus.decode(b"caf\xe9\r\n\x07a  \n\n\n\nb\n"), "caf\u00e9\na\n\nb")
        self.assertEqual(corpus.decode("\u00e9\ufffd".encode()), "\u00e9")

    def test_dangling_links_are_skipped(self):
        self.write("usr/lib/python3.11/a.py", paragraphs(1, 20).encode())
        (self.root / "usr/lib/python3.11/b.py").symlink_to("nowhere")
        self.assertEqual(len(self.texts("python")), 1)


if __name__ == "__main__":
    unittest.main()
