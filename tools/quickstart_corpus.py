#!/usr/bin/env python3
"""Splits the text of unpacked Debian packages into documents.

usage: quickstart_corpus.py UNPACKED CORPUS.jsonl

Every line of the result is {"text": ..., "kind": ...}. Documents have 2 to 32 KB and are split at
blank lines. Each kind of text has a maximum size. Documents are ordered by a hash of their text, so
every part of the file contains all kinds, and the same packages give the same bytes.
"""

import concurrent.futures
import gzip
import hashlib
import html
import json
import os
import re
import sys

MIN_BYTES = 2_000  # of a document; smaller files are joined
MAX_BYTES = 32_000  # of a document
PIECE_BYTES = 12_000  # files above MAX_BYTES are split into pieces of about this size
BLOCK_CHARACTERS = 7_000  # maximum of a block; at 4 bytes each it is below MAX_BYTES
MIN_CORPUS_BYTES = 20_000_000

NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]")


def decode(data):
    """Decodes UTF-8 or Latin-1; removes control characters, trailing spaces, extra blank lines."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    text = NOT_TEXT.sub("", text.replace("\r\n", "\n"))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip("\n")


def read_gzip(data):
    return decode(gzip.decompress(data))


def read_html(data):
    """Returns the text of a web page without head, navigation and tags."""
    text = decode(data)
    text = re.sub(r'<head.*?</head>|<div class="nav(?:header|footer)">.*?</table>', "", text,
                  flags=re.S)
    text = re.sub(r"\s*<(?:p|h\d|li|tr|div|pre|table|ul|ol|dt|blockquote)\b[^>]*>\s*", "\n\n", text)
    text = re.sub(r"<br[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]*>", "", text)).replace("\u00a0", " ")
    return decode(re.sub(r"\n[ \t]+\n", "\n\n", text).encode("utf-8", "replace"))


def read_manual(data):
    """Returns a compressed manual page in roff without its comments, most of which are licences."""
    lines = read_gzip(data).split("\n")
    return "\n".join(line for line in lines if not line.startswith(('.\\"', "'\\\"")))


def read_fortunes(data):
    return decode(data.replace(b"\n%\n", b"\n\n"))


# For each kind of text: maximum bytes, folder, suffix of file names, reader.
KINDS = {
    "prose": (8_000_000, "usr/share/doc/anarchism/html", ".html", read_html),
    "sayings": (3_000_000, "usr/share/games/fortunes", "", read_fortunes),
    "dictionary": (6_000_000, "usr/share/dictd", ".dict.dz", read_gzip),
    "manuals": (6_000_000, "usr/share/man", ".gz", read_manual),
    "reference": (5_000_000, "usr/share/doc/postgresql-doc-15/html", ".html", read_html),
    "python": (5_000_000, "usr/lib/python3.11", ".py", decode),
    "proofs": (5_000_000, "usr/share/hol-light", ".ml", decode),
}


def files_below(folder, suffix):
    """Yields the paths of regular files below a folder, in a fixed order."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            is_index = not suffix and "." in name  # index files of fortunes, as in "art.dat"
            if name.endswith(suffix) and not is_index and not os.path.islink(path):
                yield path


def size(text):
    return len(text.encode("utf-8"))


def blocks_of(text):
    """Yields paragraphs; too long ones are split at line ends, too long lines anywhere."""
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
    """Returns [text] if it fits into a document, else pieces of about PIECE_BYTES."""
    if size(text) <= MAX_BYTES:
        return [text]
    pieces, piece, piece_bytes = [], [], 0
    for block in blocks_of(text):
        block_bytes = size(block) + 2
        if piece and piece_bytes + block_bytes > MAX_BYTES:
            pieces.append("\n\n".join(piece))
            piece, piece_bytes = [], 0
        piece.append(block)
        piece_bytes += block_bytes
        if piece_bytes >= PIECE_BYTES:
            pieces.append("\n\n".join(piece))
            piece, piece_bytes = [], 0
    return pieces + ["\n\n".join(piece)]


def documents_of(texts):
    """Yields the pieces of all texts; pieces below MIN_BYTES are joined with the next one."""
    waiting = ""
    for text in texts:
        for piece in pieces_of(text):
            joined = waiting + "\n\n" + piece if waiting else piece
            if size(joined) > MAX_BYTES:  # the small text before this piece is dropped
                joined, waiting = piece, ""
            if size(joined) < MIN_BYTES:
                waiting = joined
            else:
                yield joined
                waiting = ""


def gather(root, kind):
    """Returns (hash, JSON line, bytes of text) of a kind's documents, in the order of their hashes
    and up to the maximum size of the kind."""
    cap, folder, suffix, read = KINDS[kind]

    def texts():
        for path in files_below(os.path.join(root, folder), suffix):
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
    if total < MIN_CORPUS_BYTES:
        sys.exit(f"quickstart_corpus: {root} has {total / 1e6:.1f} MB of text, but at least "
                 f"{MIN_CORPUS_BYTES / 1e6:.0f} MB are needed; give your own text to "
                 "'unipool data prepare'")
    # Sort by the reversed hash. Each kind ends at the hash where its maximum size is reached, so in
    # the order of the hashes the last lines would hold only kinds below their maximum.
    rows = sorted(sum(gathered.values(), []), key=lambda row: row[0][::-1])
    with open(target + ".partial", "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for _, line, _ in rows)
    os.replace(target + ".partial", target)


if __name__ == "__main__":
    main()
