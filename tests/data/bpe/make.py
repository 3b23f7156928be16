#!/usr/bin/env python3
"""Makes the small GPT-2 vocabulary of the tests and the expected ids of samples. Trains a
byte-level BPE on the text below and tokenizes the samples; both are simple implementations from the
description of the format. Needs the package `regex` (for Unicode classes), so it is run by hand:

    python3 make.py      writes vocab.json, merges.txt and golden.jsonl to its own folder
"""
import collections
import json
import pathlib
import random

import regex

HERE = pathlib.Path(__file__).resolve().parent
MERGES = 600
PIECE = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

TEXT = """
A shared pool of experts serves every layer: each router sends its tokens to the few experts that
score best, and the owners of those experts send the rows back. It's not what they've done before;
we'll see that it doesn't need more memory, and you'd think that they're right. I'm sure he said so.
The loss of the whole is the mean over the tokens, the ranks and the steps of the cross-entropy.
for (int i = 0; i < 100; ++i) {
    if (values[i] == nullptr) return absl::InvalidArgumentError("no value");
        std::string text = "a piece of text";
}
def tokens_of(text):
    return [token for piece in pieces(text) for token in merge(piece)]  # ids
1 2 3 10 20 100 1000 1234 2026 3.14159 0.001 1e-5 50257 65535 -----------  =======  ########
Die Schichten teilen sich die Experten; jede Straße führt über München nach Köln, größer als früher.
Les élèves ont déjà mangé à la fête, où l'été était très beau. Señor Muñoz comió piñas mañana.
Слова состоят из букв, а буквы из байтов. Это предложение на русском языке, это не код.
Η γλώσσα αυτή έχει γράμματα, και τα γράμματα έχουν bytes.
共享的专家池为每一层服务。共享的专家。これは日本語の文です。日本語の文字です。이것은 한국어 문장입니다.
العربية لغة جميلة. हिन्दी एक भाषा है। שלום עולם.
😀😀 🚀 👩‍💻 👍🏽 é é ½ ² Ⅷ ٣ ৪
aaaa aaaaaaaa abababab bababa ababcabab hahahaha nanana banana mississippi
"""

SAMPLES = [
    "", " ", "\n", "a", "the", " the", "The tokens of the layer.",
    "It's they'll we've I'm he'd you're don't", "IT'S 'tis ''s 's's 'S 'll'd 're've 'r 'l 'v '",
    " 's  's", "x'sy 3's !'s",
    "  two", "   three ", "tabs\t\tand\n\n\nlines  \n  end   ",
    "a \u3000b\u00a0c\u2003 d\u2028e\x85f", "\u180ex \u180e",
    "\x1c\x1d \x1e\x1f\x0b\x0c\r\n", "\x00\x01\x7f", "12345 1a2b ½²Ⅷ٣৪ 3.14", "---===### !?.,;:",
    "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "abababababab bababababa ababcababcabab",
    "mississippi banana nananana",
    "größer als München, Straße", "déjà l'été où", "русский язык и код", "γράμματα",
    "共享的专家池 日本語の文字です 한국어 문장",
    "العربية हिन्दी שלום", "😀🚀👩‍💻👍🏽 é\u0301e\u0301", "<|endoftext|>", "a<|endoftext|>b",
    "for (int i = 0; i < 100; ++i) {\n        return text;\n}\n",
    "x" * 15 + " " + "y" * 16 + " " + "z" * 17,
    "the " * 40, "a" * 64, "a" * 65, "ab" * 60, "共享的专家" * 30, " " * 70 + "x", "\n" * 70,
    "tokens" * 30 + "experts" * 30,
]
INVALID = [
    b"\xff", b"a\x80b", b"\xc3", b"\xc3(", b"\xe4\xb8", b"\xe4\xb8\xadx\xe4\xb8",
    b"\xf0\x9f\x98", b"\xed\xa0\x80",
    b"\xc0\xaf \xe0\x80\xaf \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80",
    b" \xff\xfe word\xff\xfe 's\xff's",
    bytes(range(256)), bytes(reversed(range(256))),
]


def byte_names():
    """Returns the printable character by which GPT-2 represents each byte."""
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    names = {byte: chr(byte) for byte in own}
    names.update({byte: chr(0x100 + i) for i, byte in enumerate(others)})
    return names


def pieces(data):
    """Yields the pieces that merges do not cross. A byte that is not UTF-8 becomes a lone
    surrogate, which is neither a letter nor a number nor a space."""
    for piece in PIECE.findall(data.decode("utf-8", "surrogateescape")):
        yield piece.encode("utf-8", "surrogateescape")


def merge_pass(word, pair):
    """Returns the word with each occurrence of the pair joined."""
    merged, i = [], 0
    while i < len(word):
        if tuple(word[i:i + 2]) == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def train(names):
    """Returns the merges: repeatedly the most frequent pair, the greatest one among equals."""
    counts = collections.Counter(pieces(TEXT.encode()))
    words = {piece: [names[byte] for byte in piece] for piece in counts}
    merges = []
    while len(merges) < MERGES:
        pairs = collections.Counter()
        for piece, word in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += counts[piece]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {piece: merge_pass(word, best) for piece, word in words.items()}
    return merges


def tokenize(data, names, ranks, ids):
    tokens = []
    for piece in pieces(data):
        word = [names[byte] for byte in piece]
        while True:
            ranked = [(ranks[pair], pair) for pair in zip(word, word[1:]) if pair in ranks]
            if not ranked:
                break
            word = merge_pass(word, min(ranked)[1])
        tokens += [ids[symbol] for symbol in word]
    return tokens


def samples():
    """Returns the byte strings of golden.jsonl: fixed samples, invalid UTF-8, and random ones."""
    generator = random.Random(4)
    alphabet = [*"abet' \n1.é中😀", "\x85", "\u2003", "the", " ex", "'ll"]
    made = ["".join(generator.choices(alphabet, k=60)).encode() for _ in range(20)]
    noise = [bytes(generator.choices(range(256), k=80)) for _ in range(10)]
    return [text.encode() for text in SAMPLES] + INVALID + made + noise


def main():
    names = byte_names()
    merges = train(names)
    ids = {}
    for name in [*sorted(names.values()), *(a + b for a, b in merges), "<|endoftext|>"]:
        ids.setdefault(name, len(ids))
    (HERE / "vocab.json").write_text(json.dumps(ids) + "\n")
    (HERE / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    with open(HERE / "golden.jsonl", "w") as file:
        for data in samples():
            record = {"hex": data.hex(), "ids": tokenize(data, names, ranks, ids)}
            file.write(json.dumps(record, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
