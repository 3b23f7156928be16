#!/usr/bin/env python3
"""Trains the same small runs as `unipool train`, written anew in PyTorch with autograd from the
description alone (configs/run.proto, model/losses.h, data/README.md), and compares every loss, the
gradient's norm, the learning rate, the validations and the final weights.

Needs torch, numpy and safetensors, so it is not part of CI. Weights and data are read from files.

    reference.py --program build/launch/unipool            # status 1 where something is not equal
    reference.py --program build/launch/unipool --golden   # the numbers of golden_test.cc
"""
import argparse
import glob
import itertools
import math
import os
import pathlib
import struct
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file

MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1
END_OF_DOCUMENT = 256
QUANTITIES = ["lm_loss", "pool_loss", "layer_aux_loss", "grad_norm", "lr", "validation_loss",
              "validation_bits_per_byte"]
COLUMNS = QUANTITIES + ["weights"]
TOLERANCE = 1e-5  # absolute
NORM_TOLERANCE = 1e-4  # relative
WEIGHT_TOLERANCE = 1e-5  # of the largest weight of the tensor

# What a run may leave out, as in configs/run.proto.
DEFAULTS = {
    "seed": 1234, "model.kv_heads": 0, "model.head_dim": 0, "model.ffn_kind": "MOE",
    "model.rope_base": 1e6, "model.norm_eps": 1e-5, "model.init_std": 0.01,
    "pool.layers_per_pool": 0, "pool.top_k": 1, "pool.router": "NORM", "pool.router_eps": 1e-8,
    "pool.router_c": 0, "pool.pool_loss": 0.01, "pool.layer_loss": 0,
    "optimizer.beta1": 0.9, "optimizer.beta2": 0.999, "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.01, "optimizer.clip_norm": 1.0,
    "schedule.convention": "MEGATRON", "eval.every_steps": 1000,
}

# Each: changes to command_support.SETTINGS. A large eps keeps AdamW from turning the rounding of
# gradients near zero into steps of full size, so that final weights can be compared.
VARIANTS = {
    "dense": {"model.ffn_kind": "DENSE"},
    "vanilla": {"pool.layers_per_pool": 1, "pool.router": "SOFTMAX", "pool.layer_loss": 0.01,
                "pool.pool_loss": 0},
    "unipool": {},
    "top2": {"pool.top_k": 2},
    # Pools of two layers, both balance losses, PLAIN, accumulation, hard clipping, one key head.
    "grouped": {"model.layers": 4, "pool.layers_per_pool": 2, "pool.top_k": 2,
                "pool.layer_loss": 0.002, "pool.pool_loss": 0.005, "schedule.convention": "PLAIN",
                "data.micro_batch": 2, "optimizer.clip_norm": 0.1, "model.kv_heads": 1,
                "eval.every_steps": 4, "optimizer.eps": 1e-4},
    # A softmax over one pool, three experts a token, several epochs, gradients in two parts.
    "shared_softmax": {"model.layers": 4, "pool.router": "SOFTMAX", "pool.top_k": 3,
                       "pool.layer_loss": 0.02, "data.global_batch": 70, "data.micro_batch": 9,
                       "pool.gradient_layers": 3, "model.kv_heads": 0,
                       "parallel.expert_parallel": 1},
    # NormRouter in pools of one layer, the estimated constant, wide heads, no clipping.
    "vanilla_norm": {"model.layers": 4, "pool.layers_per_pool": 1, "pool.experts": 24,
                     "pool.router_c": 0, "model.heads": 3, "model.kv_heads": 1,
                     "model.head_dim": 14, "optimizer.clip_norm": 0, "optimizer.weight_decay": 0.3,
                     "optimizer.beta1": 0.8, "optimizer.beta2": 0.95, "model.rope_base": 100,
                     "model.norm_eps": 1e-3, "data.global_batch": 7, "eval.sequences": 0,
                     "optimizer.eps": 1e-4},
}

# What tests/support/tiny_run.cc changes in command_support.SETTINGS.
TINY = {"model.hidden": 16, "model.ffn": 24, "model.sequence": 16, "schedule.decay_steps": 10}
GOLDEN = {"kDense": "dense", "kVanilla": "vanilla", "kUniPool": "unipool", "kUniPoolTop2": "top2"}


class Random:
    """Philox4x32-10 (Salmon et al. 2011): block b of the stream called `name` under a seed."""

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
    """Eight Feistel rounds over the next power of four, walked until below `size`."""
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


def router_constant(settings):
    """Mean over 1e5 normal draws of 1 / |top-k of relu(x / |x|)|, draws without it left out."""
    if settings["pool.router_c"]:
        return settings["pool.router_c"]
    x = np.random.RandomState(42).standard_normal((100000, settings["pool.experts"]))
    x = np.maximum(x / np.linalg.norm(x, axis=1, keepdims=True), 0)
    top = np.sort(x, axis=1)[:, -settings["pool.top_k"]:]
    norms = np.linalg.norm(top, axis=1)
    return float(np.mean(1 / norms[norms > 0]))


class Model:
    """weights: tensors by their names in checkpoints."""

    def __init__(self, settings, weights):
        self.settings, self.weights = settings, weights
        self.layers = settings["model.layers"]
        self.per_pool = settings["pool.layers_per_pool"] or self.layers
        self.heads = settings["model.heads"]
        self.kv_heads = settings["model.kv_heads"] or self.heads
        self.head_dim = settings["model.head_dim"] or settings["model.hidden"] // self.heads
        self.moe = settings["model.ffn_kind"] == "MOE"
        self.c = router_constant(settings)
        self.margin = math.inf  # the closest that a choice of expert ever was
        self.ties = 0  # the largest share of a layer's tokens whose choice had equals

    def norm(self, x, name):
        mean_square = (x * x).mean(-1, keepdim=True)
        return x / torch.sqrt(mean_square + self.settings["model.norm_eps"]) * self.weights[name]

    def turn(self, x):
        """Rotary positions; x [batch, heads, sequence, head_dim]."""
        half = self.head_dim // 2
        pair = torch.arange(half, dtype=torch.float64)
        speed = self.settings["model.rope_base"] ** (-2 * pair / self.head_dim)
        angle = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * speed
        cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
        low, high = x[..., :half], x[..., half:]
        return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)

    def attention(self, x, prefix):
        batch, length, _ = x.shape

        def project(name, heads):
            y = x @ self.weights[f"{prefix}.{name}_proj.weight"].T
            return y.view(batch, length, heads, self.head_dim).transpose(1, 2)

        q, k = self.turn(project("q", self.heads)), self.turn(project("k", self.kv_heads))
        v = project("v", self.kv_heads)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        scores = q @ k.transpose(2, 3) / math.sqrt(self.head_dim)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = torch.softmax(scores.masked_fill(future, -math.inf), -1) @ v
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        return mixed @ self.weights[f"{prefix}.o_proj.weight"].T

    def swiglu(self, x, prefix):
        gate, up, down = (self.weights[f"{prefix}.{name}_proj.weight"]
                          for name in ("gate", "up", "down"))
        gated = x @ gate.T
        return (gated * torch.sigmoid(gated) * (x @ up.T)) @ down.T

    def route(self, x, prefix):
        """Scores [tokens, experts]."""
        logits = x @ self.weights[f"{prefix}.weight"].T
        if self.settings["pool.router"] == "SOFTMAX":
            return torch.softmax(logits, -1)
        length = torch.linalg.vector_norm(logits, dim=-1, keepdim=True)
        unit = logits / (length + self.settings["pool.router_eps"])
        return self.weights[f"{prefix}.scale"] * self.c * torch.relu(unit)

    def experts(self, x, layer):
        scores = self.route(x, f"model.layers.{layer}.mlp.router")
        top_k = self.settings["pool.top_k"]
        # Stable: among equals the lowest id.
        ordered, order = torch.sort(scores, dim=-1, descending=True, stable=True)
        ids, gates = order[:, :top_k], scores.gather(1, order[:, :top_k])
        gaps = ordered[:, top_k - 1] - ordered[:, top_k]
        gaps = gaps[gaps > 0].tolist()  # without those that the tie rule decides
        self.margin = min([self.margin] + gaps)
        self.ties = max(self.ties, 1 - len(gaps) / len(x))
        y = torch.zeros_like(x)
        for expert in range(scores.shape[1]):
            rows, slots = (ids == expert).nonzero(as_tuple=True)
            prefix = f"model.expert_pools.{layer // self.per_pool}.experts.{expert}"
            result = self.swiglu(x[rows], prefix) * gates[rows, slots][:, None]
            y = y.index_add(0, rows, result)
        return y, scores, torch.bincount(ids.flatten(), minlength=scores.shape[1])

    def forward(self, tokens):
        """Logits [tokens, vocab], and of each layer the scores and the counts of choices."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        scores, counts = [], []
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            x = x + self.attention(self.norm(x, f"{prefix}.input_layernorm.weight"),
                                   f"{prefix}.self_attn")
            h = self.norm(x, f"{prefix}.post_attention_layernorm.weight")
            if not self.moe:
                x = x + self.swiglu(h, f"{prefix}.mlp")
                continue
            y, layer_scores, layer_counts = self.experts(h.flatten(0, 1), layer)
            x = x + y.view_as(x)
            scores.append(layer_scores)
            counts.append(layer_counts)
        x = self.norm(x, "model.norm.weight")
        return (x @ self.weights["lm_head.weight"].T).flatten(0, 1), scores, counts

    def balance(self, scores, previous):
        """Pool and layer balance losses, against the counts of the step before."""
        zero = next(iter(self.weights.values())).new_zeros(())
        pool, layer = zero, zero
        for i, layer_scores in enumerate(scores if previous else []):
            mean, experts = layer_scores.mean(0), layer_scores.shape[1]
            first = i // self.per_pool * self.per_pool
            together = sum(previous[first:first + self.per_pool])
            share = (together / together.sum()).to(mean.dtype)
            alpha = self.settings["pool.pool_loss"]
            pool = pool + alpha * experts / self.per_pool * (share * mean).sum()
            share = (previous[i] / previous[i].sum()).to(mean.dtype)
            layer = layer + self.settings["pool.layer_loss"] * experts * (share * mean).sum()
        return pool, layer


def rate(settings, step):
    done = step - 1 if settings["schedule.convention"] == "MEGATRON" else step
    peak, low = settings["schedule.lr"], settings["schedule.min_lr"]
    warmup, decay = settings["schedule.warmup_steps"], settings["schedule.decay_steps"]
    if done <= warmup:
        return peak * done / warmup
    part = min(1, (done - warmup) / (decay - warmup))
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * part))


def adamw(settings, weights, gradients, moments, step, lr, factor):
    beta1, beta2 = settings["optimizer.beta1"], settings["optimizer.beta2"]
    for name, weight in weights.items():
        g = gradients[name] * factor
        m, v = moments.setdefault(name, (torch.zeros_like(g), torch.zeros_like(g)))
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        moments[name] = (m, v)
        root = torch.sqrt(v / (1 - beta2**step))
        change = m / (1 - beta1**step) / (root + settings["optimizer.eps"])
        if weight.dim() > 1:
            change = change + settings["optimizer.weight_decay"] * weight.detach()
        weights[name] = (weight.detach() - lr * change).requires_grad_()


def validate(model, text):
    tokens, targets = text.validation()
    with torch.no_grad():
        logits = model.forward(tokens)[0]
    total = float(torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum"))
    written = int((targets != END_OF_DOCUMENT).sum())  # an end of document is no byte of text
    return {"validation_loss": total / targets.numel(),
            "validation_bits_per_byte": total / math.log(2) / written}


def train(settings, prefix, initial, dtype):
    """Records of steps 0, 1, ..., the final weights and the model."""
    text = Text(prefix, settings)
    weights = {name: torch.from_numpy(w).to(dtype).requires_grad_() for name, w in initial.items()}
    model, moments, previous = Model(settings, weights), {}, None
    records = [dict(validate(model, text), step=0)]
    for step in range(1, settings["steps"] + 1):
        tokens, targets = text.training(step)
        logits, scores, counts = model.forward(tokens)
        lm = torch.nn.functional.cross_entropy(logits, targets.flatten())
        pool, layer = model.balance(scores, previous)
        values = torch.autograd.grad(lm + pool + layer, list(weights.values()), allow_unused=True)
        gradients = {name: torch.zeros_like(w) if g is None else g
                     for (name, w), g in zip(weights.items(), values)}
        norm = math.sqrt(sum(float((g.double()**2).sum()) for g in gradients.values()))
        clip, lr = settings["optimizer.clip_norm"], rate(settings, step)
        adamw(settings, weights, gradients, moments, step, lr,
              min(1, clip / (norm + 1e-6)) if clip else 1)
        previous = counts
        records.append({"step": step, "lm_loss": float(lm), "pool_loss": float(pool),
                        "layer_aux_loss": float(layer), "grad_norm": norm, "lr": lr})
        if step == settings["steps"] or step % settings["eval.every_steps"] == 0:
            records[-1].update(validate(model, text))
    return records, {name: w.detach().numpy() for name, w in weights.items()}, model


def check_initial(settings, weights):
    """Step 1 of the lagging schedule has rate 0: what it saves must be what the seed gives."""
    for name, value in weights.items():
        expected = np.ones(value.shape)
        if value.ndim > 1:
            normals = Random(settings["seed"], name).normals(value.size)
            expected = settings["model.init_std"] * normals.reshape(value.shape)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            expected /= math.sqrt(2 * settings["model.layers"])
        deviation = np.abs(expected - value).max()
        assert deviation <= 3e-7 * np.abs(expected).max(), f"initial {name}: {deviation}"


class Program:
    """`unipool` on one text, in a folder of its own."""

    def __init__(self, support, folder, prefix):
        self.support, self.folder, self.prefix = support, folder, prefix

    def train(self, name, settings, ranks):
        run_dir = os.path.join(self.folder, name)
        done = self.support.run(self.support.train_command(self.prefix, run_dir, settings), ranks)
        assert done.returncode == 0, done.stderr
        files = glob.glob(os.path.join(run_dir, "checkpoints", "step_*", "*.safetensors"))
        tensors = [item for file in files for item in load_file(file).items()]
        assert len(dict(tensors)) == len(tensors), "a tensor is in two files"
        return self.support.metrics(run_dir), dict(tensors)

    def initial(self, name, settings):
        weights = self.train(f"{name}-initial", dict(settings, **{
            "steps": 1, "schedule.convention": "MEGATRON"}), 0)[1]
        check_initial(dict(DEFAULTS, **settings), weights)
        return weights


def compare(ours, theirs, largest):
    """Complaints; `largest` deviation by quantity is raised to what is seen."""
    complaints = []
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]
    for record, expected in zip(ours, theirs):
        assert ("validation_loss" in record) == ("validation_loss" in expected), record["step"]
        for key in (key for key in QUANTITIES if key in expected):
            deviation = abs(record[key] - expected[key])
            limit = TOLERANCE
            if key == "grad_norm":
                deviation, limit = deviation / expected[key], NORM_TOLERANCE
            largest[key] = max(largest[key], deviation)
            if not deviation <= limit:
                complaints.append(f"step {record['step']} {key}: {record[key]:.9g}, "
                                  f"the reference has {expected[key]:.9g}")
    return complaints


def compare_weights(ours, theirs, largest):
    assert sorted(ours) == sorted(theirs)
    complaints = []
    for name, expected in theirs.items():
        deviation = float(np.abs(ours[name] - expected).max() / np.abs(expected).max())
        largest["weights"] = max(largest["weights"], deviation)
        if not deviation <= WEIGHT_TOLERANCE:
            complaints.append(f"final {name}: off by {deviation:.3g} of its largest weight")
    return complaints


def check_variant(program, name, base, dtype):
    """Prints a line for each number of ranks; returns how much there is to complain about."""
    settings, complaints = dict(base, **VARIANTS[name]), 0
    initial = program.initial(name, settings)
    theirs, their_weights, model = train(dict(DEFAULTS, **settings), program.prefix, initial, dtype)
    for ranks in (0, 1, 2, 3):
        ours, our_weights = program.train(f"{name}-{ranks}", settings, ranks)
        largest = dict.fromkeys(COLUMNS, 0)
        found = compare(ours, theirs, largest)
        found += compare_weights(our_weights, their_weights, largest)
        print(f"{name:16s}{ranks or '-':>5}" + "".join(
            f"{largest[key]:10.1e}" for key in COLUMNS) + f"{model.margin:10.0e}{model.ties:6.2f}")
        for complaint in found[:10]:
            print("  " + complaint)
        complaints += len(found)
    return complaints


def write_tiny_dataset(prefix):
    """The bytes of WriteTinyDataset in tests/support/tiny_run.cc."""
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


def print_golden(support, folder):
    prefix = os.path.join(folder, "tiny")
    write_tiny_dataset(prefix)
    program = Program(support, folder, prefix)
    for constant, name in GOLDEN.items():
        settings = dict(support.SETTINGS, **TINY, **VARIANTS[name])
        initial = program.initial(name, settings)
        records = train(dict(DEFAULTS, **settings), prefix, initial, torch.float64)[0]
        validations = ", ".join(f"{records[i]['validation_loss']:.7f}" for i in (0, -1))
        print(f"constexpr double {constant}Validation[] = {{{validations}}};")
        print(f"constexpr GoldenStep {constant}[] = {{")
        for r in records[1:]:
            print("    {" + ", ".join(f"{r[key]:.7f}" for key in QUANTITIES[:4]) + "},")
        print("};\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the built unipool")
    parser.add_argument("--variant", choices=VARIANTS, help="only this one")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--float32", action="store_true", help="the reference in float32 too")
    parser.add_argument("--golden", action="store_true", help="print tables for golden_test.cc")
    arguments = parser.parse_args()
    os.environ["UNIPOOL_PROGRAM"] = os.path.abspath(arguments.program)
    import command_support as support  # reads the environment when it is loaded
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.golden:
            print_golden(support, folder)
            return 0
        program = Program(support, folder, support.write_text(folder))
        base = dict(support.SETTINGS, **{"steps": arguments.steps,
                                         "schedule.decay_steps": arguments.steps})
        heads = [key.replace("validation_", "v_")[:9] for key in COLUMNS + ["margin"]]
        print("largest deviation".ljust(21) + "".join(f"{head:>10s}" for head in heads) + "  ties")
        dtype = torch.float32 if arguments.float32 else torch.float64
        names = [arguments.variant] if arguments.variant else list(VARIANTS)
        return min(1, sum(check_variant(program, name, base, dtype) for name in names))


if __name__ == "__main__":
    sys.exit(main())
