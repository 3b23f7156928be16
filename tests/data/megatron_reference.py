#!/usr/bin/env python3
"""Megatron-Core's order of samples in plain Python, implemented from its description
(model/method.md#sample-order) and deliberately different from the program: it lists tokens one by
one, and uses Python's random generator in the state that numpy's seeding sets.

    megatron_reference.py --golden    prints the numbers in tests/data/megatron_order_test.cc
    megatron_reference.py --numpy     compares the shuffles with those of numpy, which it needs
"""
import argparse
import math
import random

GOLDEN_LENGTHS = [3, 1, 0, 7, 2, 5, 4, 1, 6]  # tokens of each sequence
# (first, last, sequence, wanted, seed). The cases are one epoch; several epochs shuffled together;
# the last epoch shuffled separately.
GOLDEN_CASES = [(0, 9, 4, 5, 1234), (1, 8, 3, 18, 1234), (1, 8, 3, 14, 7)]


def numpy_words(seed):
    """Returns Python's generator in the state of numpy.random.RandomState(seed)."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & 0xffffffff)
    generator = random.Random()
    generator.setstate((3, tuple(state + [624]), None))
    return generator


def shuffled(values, words):
    """Returns the values in the order of numpy's RandomState.shuffle."""
    values = list(values)
    for last in reversed(range(1, len(values))):
        mask = (1 << last.bit_length()) - 1
        draw = words.getrandbits(32) & mask
        while draw > last:
            draw = words.getrandbits(32) & mask
        values[last], values[draw] = values[draw], values[last]
    return values


def indices(lengths, first, last, sequence, wanted, seed):
    """Returns (documents, cuts, shuffle) of sequences first to last - 1. A cut is (index into
    documents, offset of the token), the start of a sample."""
    ids = list(range(first, last))
    tokens = sum(lengths[first:last])
    epochs = 1
    while epochs * tokens < wanted * sequence + 1:
        epochs += 1
    cuts_of = lambda n: (n * tokens - 1) // sequence
    last_is_separate = epochs > 1 and wanted - cuts_of(epochs - 1) < int(0.8 * cuts_of(1))
    words = numpy_words(seed)
    if last_is_separate:
        documents = shuffled(ids * (epochs - 1), words) + shuffled(ids, words)
    else:
        documents = shuffled(ids * epochs, words)
    stream = [(place, offset) for place, document in enumerate(documents)
              for offset in range(lengths[document])]
    cuts = [stream[i * sequence] for i in range(cuts_of(epochs) + 1)]
    border = cuts_of(epochs - 1) if last_is_separate else cuts_of(epochs)
    shuffle = shuffled(range(border), words)
    shuffle += shuffled(range(border, cuts_of(epochs)), words)
    return documents, cuts, shuffle


def samples(sequences, first, last, sequence, wanted, seed):
    """Returns `wanted` samples of sequence + 1 ids each, from sequences first to last - 1."""
    lengths = [len(ids) for ids in sequences]
    documents, _, shuffle = indices(lengths, first, last, sequence, wanted, seed)
    stream = [token for document in documents for token in sequences[document]]
    return [stream[cut * sequence:(cut + 1) * sequence + 1] for cut in shuffle[:wanted]]


def split_bounds(weights, count):
    """Returns the bounds of the parts when `count` sequences are split by weight."""
    total, bounds, sum_so_far = sum(weights), [0], 0.0
    for weight in weights:
        sum_so_far += weight / total
        bounds.append(round(sum_so_far * count))
    return bounds


def normalized(weights):
    """Returns the weights divided by their sum. numpy adds fewer than 8 numbers in their order."""
    assert len(weights) < 8
    return [weight / sum(weights) for weight in weights]


def blended(shards, weights, part, split, settings):
    """Returns `wanted` samples of a blend. A shard is a list of sequences; settings are (sequence,
    wanted, seed)."""
    sequence, wanted, seed = settings
    shares = normalized(weights)
    queues = []
    for sequences, share in zip(shards, shares):
        bounds = split_bounds(split, len(sequences))
        own = math.ceil(math.ceil(wanted * share) * (1 + 0.005))
        queues.append(samples(sequences, bounds[part], bounds[part + 1], sequence, own, seed))
    taken, result = [0] * len(shards), []
    shares = normalized(shares)
    for i in range(wanted):
        errors = [share * max(i, 1) - count for share, count in zip(shares, taken)]
        shard = errors.index(max(errors))
        result.append(queues[shard][taken[shard]])
        taken[shard] += 1
    return result


def print_golden():
    for case in GOLDEN_CASES:
        documents, cuts, shuffle = indices(GOLDEN_LENGTHS, *case)
        print(case)
        print("documents", documents)
        print("cuts", ", ".join(f"{{{place}, {offset}}}" for place, offset in cuts))
        print("shuffle", shuffle)


def compare_with_numpy():
    import numpy
    for seed in (0, 1, 1234, 4294967295):
        theirs, words = numpy.random.RandomState(seed), numpy_words(seed)
        for count in (1, 2, 10, 12, 1000, 70001):
            values = numpy.arange(count, dtype=numpy.uint32)
            theirs.shuffle(values)
            assert list(values) == shuffled(range(count), words), (seed, count)
    for count in (1, 3, 7, 8, 9, 30, 127, 128, 129, 300):
        weights = [0.1 + 0.37 * i % 1.0 for i in range(count)]
        print(f"sum of {count} weights: {float(numpy.sum(weights)).hex()}")
    print("all shuffles equal those of numpy")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--numpy", action="store_true")
    options = parser.parse_args()
    if options.golden:
        print_golden()
    if options.numpy:
        compare_with_numpy()
