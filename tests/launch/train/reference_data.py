"""Data for reference.py, implemented independently from the description in data/README.md: the
counter-based random generator, the order of samples, and the parts of a batch per rank."""
import itertools
import math
import pathlib
import struct

import numpy as np
import torch

MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1
END_OF_DOCUMENT = 256


class Random:
    """Philox4x32-10 (Salmon et al. 2011). The seed is the key; the name selects the stream."""

    def __init__(self, seed, name):
        stream = 0xcbf29ce484222325  # FNV-1a
        for byte in name.encode():
            stream = (stream ^ byte) * 0x100000001b3 & MASK64
        self.key, self.stream = (seed & MASK32, seed >> 32), (stream & MASK32, stream >> 32)

    def block(self, number):
        words = [number & MASK32, number >> 32, *self.stream]
        key = list(self.key)
        for _ in range(10):
            first, second = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
            words = [second >> 32 ^ words[1] ^ key[0], second & MASK32,
                     first >> 32 ^ words[3] ^ key[1], first & MASK32]
            key = [(key[0] + 0x9E3779B9) & MASK32, (key[1] + 0xBB67AE85) & MASK32]
        return words

    def word64(self, i):
        words = self.block(i // 2)[2 * (i % 2):]
        return words[0] << 32 | words[1]

    def uniform(self, i):
        return ((self.word64(i) >> 12) + 0.5) / 2.0**52

    def normals(self, count):
        values = []
        for b in range(0, count, 2):  # Box-Muller
            radius = math.sqrt(-2 * math.log(self.uniform(b)))
            angle = 2 * math.pi * self.uniform(b + 1)
            values += [radius * math.cos(angle), radius * math.sin(angle)]
        return np.array(values[:count])


def permute(i, size, key):
    """Returns element i of a permutation of [0, size): eight Feistel rounds on the next power of
    four, repeated until the result is below `size`."""
    def mix(x):
        x = (x ^ x >> 33) * 0xff51afd7ed558ccd & MASK64
        x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53 & MASK64
        return x ^ x >> 33

    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right, round_key = i >> bits, i & (1 << bits) - 1, key
        for _ in range(8):
            round_key = mix((round_key + 0x9e3779b97f4a7c15) & MASK64)
            left, right = right, left ^ mix(right ^ round_key) & (1 << bits) - 1
        i = left << bits | right
        if i < size:
            return i


class Text:
    """The training and validation samples of a .bin/.idx pair."""

    def __init__(self, prefix, settings):
        index = pathlib.Path(prefix + ".idx").read_bytes()
        assert index[:9] == b"MMIDIDX\0\0"
        _, kind, sequences, _ = struct.unpack_from("<QBQQ", index, 9)
        lengths = np.frombuffer(index, "<i4", sequences, 34)
        dtype = {1: "u1", 4: "<i4", 8: "<u2"}[kind]
        self.tokens = np.fromfile(prefix + ".bin", dtype).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        assert starts[-1] == len(self.tokens)
        shares = np.array([float(x) for x in settings["data.split"].split(",")])
        bounds = [round(x * sequences) for x in np.cumsum(shares / shares.sum())]
        self.parts = [(0, starts[bounds[0]]), (starts[bounds[0]], starts[bounds[1]])]
        self.length = settings["model.sequence"]
        self.settings = settings

    def count(self, part):
        begin, end = self.parts[part]
        return int(end - begin - 1) // self.length

    def cut(self, part, samples):
        begin = self.parts[part][0]
        rows = [self.tokens[begin + i * self.length:][:self.length + 1] for i in samples]
        rows = torch.from_numpy(np.stack(rows))
        return rows[:, :-1], rows[:, 1:]

    def training(self, step):
        size, count, samples = self.settings["data.global_batch"], self.count(0), []
        for g in range((step - 1) * size, step * size):
            key = Random(self.settings["seed"], "data.order").word64(g // count)
            samples.append(permute(g % count, count, key))
        return self.cut(0, samples)

    def validation(self):
        wanted = self.settings["eval.sequences"] or self.count(1)
        return self.cut(1, range(min(wanted, self.count(1))))


def slices(settings, ranks):
    """Returns slices[micro_step][rank] = (first, end) in the global batch. Parts have equal sizes,
    or the first ones have one sequence more."""
    def part(count, parts, i):
        return i * (count // parts) + min(i, count % parts)

    size = settings["data.global_batch"]
    max_sequences = settings["data.micro_batch"] or -(-size // ranks)
    steps = -(-size // (max_sequences * ranks))
    cuts = []
    for step in range(steps):
        first, end = part(size, steps, step), part(size, steps, step + 1)
        cuts.append([tuple(first + part(end - first, ranks, r) for r in (rank, rank + 1))
                     for rank in range(ranks)])
    return cuts


def write_tiny_dataset(prefix):
    """Writes the same bytes as WriteTinyDataset in tests/support/tiny_run.cc."""
    random, documents = Random(99, "tiny dataset"), []
    draws = map(random.uniform, itertools.count())
    for d in range(60):
        tokens = [97 + d % 26]
        for _ in range(150 + d):
            surprise = next(draws) < 0.2
            tokens.append(97 + (int(next(draws) * 26) if surprise else (tokens[-1] * 7 + 3) % 26))
        documents.append(tokens[1:] + [END_OF_DOCUMENT])
    lengths = np.array([len(tokens) for tokens in documents])
    np.concatenate(documents).astype("<u2").tofile(prefix + ".bin")
    offsets = 2 * (np.cumsum(lengths) - lengths)
    pathlib.Path(prefix + ".idx").write_bytes(
        b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, len(lengths), len(lengths) + 1)
        + lengths.astype("<i4").tobytes() + offsets.astype("<i8").tobytes()
        + np.arange(len(lengths) + 1).astype("<i8").tobytes())
