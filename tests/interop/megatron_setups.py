"""Random data and settings of `order: MEGATRON`: shards of tokens that are all different, a blend,
a split, and numbers of samples. The same number gives the same set-up on any version of Python."""
import hashlib
import json
import pathlib
import random
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import command_support as support

RECORDED = pathlib.Path(__file__).resolve().parent / "recorded_orders.json"
PARTS = ("train", "validation", "test")
SPLITS = ("80,15,5", "969,30,1", "100,0,0", "99,1", "98,2,0", "1,1,1", "0,60,40", "0,0,100",
          "33.3,33.3,33.4", "0.9,0.05,0.05", "50,0,50", "7")


class Draw:
    """Numbers from random.Random.random(), the only draw that no version of Python changes."""

    def __init__(self, seed):
        self.generator = random.Random(seed)

    def below(self, count):
        return int(self.generator.random() * count)

    def between(self, first, last):
        return first + self.below(last - first + 1)

    def one_of(self, values):
        return values[self.below(len(values))]


def draw_weights(draw, count):
    """Weights of one to three decimals, of any size or sum, and now and then a tiny one."""
    kind = draw.below(8)
    if kind == 0:
        return [float(draw.one_of((1, 2, 3, 0.5, 0.25))) for _ in range(count)]
    if kind == 1:
        return [1.0] * count
    digits = 10 ** draw.between(1, 3)
    weights = [draw.between(1, digits) / digits for _ in range(count)]
    if kind == 2:
        weights[draw.below(count)] = draw.one_of((1e-4, 1e-7, 1e-12))
    if kind == 3:
        weights = [weight * 100 for weight in weights]
    return weights


def make_setup(number):
    """A dict that both sides read: a shard is the list of the lengths of its documents."""
    draw = Draw(number)
    split = SPLITS[number % len(SPLITS)]
    count = 1 if number % 16 == 3 else draw.between(2, 30)
    # Every part needs tokens: megatron-core does not return for a part without any.
    fewest = {"969,30,1": 600, "99,1": 150, "98,2,0": 150}.get(split, 40)
    shards = [[draw.between(0 if at % 9 == 4 and at < fewest // 2 else 1, 24)
               for at in range(draw.between(fewest, fewest + 40))] for _ in range(count)]
    steps, every = draw.between(5, 60), draw.between(1, 20)
    setup = {"number": number, "split": split, "shards": shards, "sequence": draw.between(2, 19),
             "seed": draw.one_of((1234, 0, 1, 4294967295, draw.below(1 << 32))),
             "steps": steps, "every": every, "batch": draw.between(1, 60),
             "evaluation": draw.between(1, 40), "weights": draw_weights(draw, count)}
    if number % 32 == 3:
        setup["weights"] = None  # data.prefix, no blend
    evaluations = (steps // every + 1) * setup["evaluation"]
    setup["wanted"] = [steps * setup["batch"], evaluations, setup["evaluation"]]
    return setup


def write_pair(prefix, lengths, first_id):
    """Writes Megatron's pair of int32 ids, one sequence per document; the ids count up."""
    tokens = sum(lengths)
    ids = range(first_id, first_id + tokens)
    pathlib.Path(prefix + ".bin").write_bytes(struct.pack(f"<{tokens}i", *ids))
    count, starts = len(lengths), [0]
    for length in lengths:
        starts.append(starts[-1] + 4 * length)
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 4, count, count + 1)
    index += struct.pack(f"<{count}i", *lengths) + struct.pack(f"<{count}q", *starts[:-1])
    index += struct.pack(f"<{count + 1}q", *range(count + 1))
    pathlib.Path(prefix + ".idx").write_bytes(index)


def write_shards(setup, folder):
    """Writes the shards of a set-up and returns their prefixes."""
    prefixes, first_id = [], 0
    for i, lengths in enumerate(setup["shards"]):
        prefixes.append(str(pathlib.Path(folder, f"shard{i}")))
        write_pair(prefixes[-1], lengths, first_id)
        first_id += sum(lengths)
    return prefixes


def write_config(setup, prefixes, folder):
    """Writes the config of a set-up and returns its path."""
    data = f'prefix: "{prefixes[0]}"'
    if setup["weights"] is not None:
        data = " ".join(f'source {{ prefix: "{prefix}" weight: {weight!r} }}'
                        for prefix, weight in zip(prefixes, setup["weights"]))
    vocab = sum(map(sum, setup["shards"]))
    path = pathlib.Path(folder, "run.textproto")
    path.write_text(f"""
        run_dir: "{folder}/run" steps: {setup["steps"]} seed: {setup["seed"]}
        model {{ vocab: {vocab} hidden: 8 layers: 1 heads: 2 sequence: {setup["sequence"]}
                 ffn_kind: DENSE }}
        data {{ {data} split: "{setup["split"]}" global_batch: {setup["batch"]} order: MEGATRON }}
        eval {{ every_steps: {setup["every"]} sequences: {setup["evaluation"]} }}""")
    return str(path)


def read_part(setup, config, part):
    """The samples that `unipool data batch` prints for a part, all that the run wants. None if it
    refuses because the part is empty."""
    steps = setup["wanted"][part] // setup["batch" if part == 0 else "evaluation"]
    done = support.run(["data", "batch", "--config", config, "--steps", steps,
                        "--part", PARTS[part]])
    if done.returncode == 2 and f"has no {PARTS[part]} part" in done.stderr:
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return [sample for line in done.stdout.splitlines() for sample in json.loads(line)["samples"]]


def digest(samples):
    """A hash of the samples of a part; None for a part that does not exist."""
    if samples is None:
        return None
    return hashlib.sha256(json.dumps(samples).encode()).hexdigest()[:16]
