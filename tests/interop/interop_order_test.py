#!/usr/bin/env python3
"""`order: MEGATRON` gives the samples of the real megatron-core, in random set-ups: 1 to 30 shards,
weights of one to three decimals, splits with empty parts, several epochs, any seed.

UNIPOOL_INTEROP_SETUPS is the number of set-ups (default 100), UNIPOOL_INTEROP_FIRST the number of
the first one (default 0).

    interop_order_test.py --record    writes recorded_orders.json with the results of the library
"""
import json
import os
import sys
import tempfile

import interop_support as interop
import megatron_setups as setups

NUM_RECORDED = 24


def describe(setup):
    return (f"set-up {setup['number']}: {len(setup['shards'])} shards, weights {setup['weights']}, "
            f"split {setup['split']}, seed {setup['seed']}")


def compare(library, setup):
    """Compares one set-up with the library, and ends if they differ. Returns False if the library
    refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        prefixes = setups.write_shards(setup, folder)
        config = setups.write_config(setup, prefixes, folder)
        found = [setups.read_part(setup, config, part) for part in range(3)]
        drawn = library.ask(dict(setup, prefixes=prefixes))
    if "refused" in drawn:
        print(f"{describe(setup)}: megatron-core refuses it: {drawn['refused'][:80]}")
        return False
    for name, ours, theirs in zip(setups.PARTS, found, drawn["parts"]):
        if ours == theirs:
            continue
        at = next((i for i, pair in enumerate(zip(ours or [], theirs or [])) if pair[0] != pair[1]),
                  "none")
        sys.exit(f"{describe(setup)}: the {name} part differs from sample {at} on")
    return True


def record(library):
    lines = []
    for number in range(NUM_RECORDED):
        setup = setups.make_setup(number)
        with tempfile.TemporaryDirectory() as folder:
            drawn = library.ask(dict(setup, prefixes=setups.write_shards(setup, folder)))
        lines.append(json.dumps({"setup": number, "megatron_core": drawn["version"],
                                 "parts": [setups.digest(part) for part in drawn["parts"]]}))
    setups.RECORDED.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main():
    with interop.Library("megatron_samples.py") as library:
        if sys.argv[1:] == ["--record"]:
            return record(library)
        first = int(os.environ.get("UNIPOOL_INTEROP_FIRST", 0))
        count = int(os.environ.get("UNIPOOL_INTEROP_SETUPS", 100))
        same = sum(compare(library, setups.make_setup(number))
                   for number in range(first, first + count))
    print(f"{same} of {count} set-ups have the samples of megatron-core; it refuses {count - same}")
    return 0 if 2 * same > count else 1


if __name__ == "__main__":
    sys.exit(main())
