#!/usr/bin/env python3
"""Cuts unpacked Debian packages into documents: quickstart_corpus.py UNPACKED CORPUS.jsonl

Every line of the result is {"text": ..., "kind": ...}. Documents are 2 to 32 KB, cut at blank
lines, capped by kind and ordered by a hash of their text: any stretch of lines holds every kind,
and the same packages give the same bytes.
"""

import concurrent.futures
import gzip
import hashlib
import html
import json
import os
import re
import sys

LEAST_BYTES = 2_000  # of a document; smaller files are put together
MOST_BYTES = 32_000
PIECE_BYTES = 12_000  # a larger file is cut into pieces of about this size
BLOCK_CHARACTERS = 7_000  # cut no finer than this; four bytes each are still a document
LEAST_CORPUS_BYTES = 20_000_000

NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]")


def decode(data):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    text = NOT_TEXT.sub("", text.replace("\r\n", "\n"))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip("\n")


def plain(data):
    return decode(data)


def unpacked(data):
    return decode(gzip.decompress(data))


def page(data):
    """A web page without its head, navigation and tags."""
    text = decode(data)
    text = re.sub(r'<head.*?</head>|<div class="nav(?:header|footer)">.*?</table>', "", text,
                  flags=re.S)
    text = re.sub(r"\s*<(?:p|h\d|li|tr|div|pre|table|ul|ol|dt|blockquote)\b[^>]*>\s*", "\n\n", text)
    text = re.sub(r"<br[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]*>", "", text)).replace("\u00a0", " ")
    return decode(re.sub(r"\n[ \t]+\n", "\n\n", text).encode("utf-8", "replace"))


def manual(data):
    """A manual page in roff, without its comments: half of them are licences."""
    lines = unpacked(data).split("\n")
    return "\n".join(line for line in lines if not line.startswith(('.\\"', "'\\\"")))


def sayings(data):
    return decode(data.replace(b"\n%\n", b"\n\n"))


# kind: cap in bytes, folder, ending of names, reader.
KINDS = {
    "prose": (8_000_000, "usr/share/doc/anarchism/html", ".html", page),
    "sayings": (3_000_000, "usr/share/games/fortunes", "", sayings),
    "dictionary": (6_000_000, "usr/share/dictd", ".dict.dz", unpacked),
    "manuals": (6_000_000, "usr/share/man", ".gz", manual),
    "reference": (5_000_000, "usr/share/doc/postgresql-doc-15/html", ".html", page),
    "python": (5_000_000, "usr/lib/python3.11", ".py", plain),
    "proofs": (5_000_000, "usr/share/hol-light", ".ml", plain),
}


def files_below(folder, ending):
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            is_index = not ending and "." in name  # fortunes keep theirs beside the text
            if name.endswith(ending) and not is_index and not os.path.islink(path):
                yield path


def size(text):
    return len(text.encode("utf-8"))


def blocks_of(text):
    """Paragraphs; one that is too long is cut at ends of lines, a too long line anywhere."""
    for paragraph in text.split("\n\n"):
        block = ""
        for line in paragraph.split("\n"):
            for start in range(0, len(line) or 1, BLOCK_CHARACTERS):
                part = line[start : start + BLOCK_CHARACTERS]
                if block and len(block) + len(part) >= BLOCK_CHARACTERS:
                    yield block
                    block = part
                else:
                    block = block + "\n" + part if block else part
        yield block


def pieces_of(text):
    """The text itself when it fits a document, else pieces of about PIECE_BYTES."""
    if size(text) <= MOST_BYTES:
        return [text]
    pieces, piece, piece_bytes = [], [], 0
    for block in blocks_of(text):
        block_bytes = size(block) + 2
        if piece and piece_bytes + block_bytes > MOST_BYTES:
            pieces.append("\n\n".join(piece))
            piece, piece_bytes = [], 0
        piece.append(block)
        piece_bytes += block_bytes
        if piece_bytes >= PIECE_BYTES:
            pieces.append("\n\n".join(piece))
            piece, piece_bytes = [], 0
    return pieces + ["\n\n".join(piece)]


def documents_of(texts):
    """Pieces of all texts; small ones wait for their neighbours."""
    waiting = ""
    for text in texts:
        for piece in pieces_of(text):
            joined = waiting + "\n\n" + piece if waiting else piece
            if size(joined) > MOST_BYTES:  # the piece alone is large enough
                joined, waiting = piece, ""
            if size(joined) < LEAST_BYTES:
                waiting = joined
            else:
                yield joined
                waiting = ""


def gather(root, kind):
    """(hash, JSON line, bytes of text) of the kind's documents, up to its cap in order of hash."""
    cap, folder, ending, read = KINDS[kind]

    def texts():
        for path in files_below(os.path.join(root, folder), ending):
            with open(path, "rb") as file:
                yield read(file.read())

    found = {}
    for text in documents_of(texts()):
        data = text.encode("utf-8")
        found[hashlib.sha256(data).hexdigest()] = (text, len(data))
    rows, total = [], 0
    for digest in sorted(found):
        text, count = found[digest]
        if total + count > cap:
            break
        total += count
        rows.append((digest, json.dumps({"text": text, "kind": kind}, ensure_ascii=False), count))
    return rows


def print_table(gathered):
    print(f"{'kind':<12}{'documents':>10}{'MB':>8}  hash")
    for kind, rows in list(gathered.items()) + [("all", sum(gathered.values(), []))]:
        digest = hashlib.sha256("".join(sorted(row[0] for row in rows)).encode()).hexdigest()
        print(f"{kind:<12}{len(rows):>10}{sum(row[2] for row in rows) / 1e6:>8.2f}  {digest[:16]}")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: quickstart_corpus.py UNPACKED CORPUS.jsonl")
    root, target = sys.argv[1:]
    with concurrent.futures.ProcessPoolExecutor(min(os.cpu_count() or 1, len(KINDS))) as pool:
        gathered = dict(zip(KINDS, pool.map(gather, [root] * len(KINDS), KINDS)))
    print_table(gathered)
    total = sum(row[2] for rows in gathered.values() for row in rows)
    if total < LEAST_CORPUS_BYTES:
        sys.exit(f"quickstart_corpus: only {total / 1e6:.1f} MB of text, expected 20 or more")
    # By other digits of the hash than those that the caps went by, or the last lines would hold
    # only the kinds that lie below their caps.
    rows = sorted(sum(gathered.values(), []), key=lambda row: row[0][::-1])
    with open(target + ".partial", "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for _, line, _ in rows)
    os.replace(target + ".partial", target)


if __name__ == "__main__":
    main()
