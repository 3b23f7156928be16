#!/usr/bin/env python3
"""Compares small runs of `unipool train` with an independent implementation in PyTorch.

That implementation uses autograd and follows only the description (configs/run.proto,
model/losses.h, data/README.md). The comparison covers all losses, the gradient norm, the learning
rate, the validations and the final weights, for 1, 2 and 3 ranks. Initial weights and data are read
from files.

Needs torch and numpy (Debian's python3-torch), so it is not part of CI.

    reference.py --program build/launch/unipool            # exit status 1 if anything differs
    reference.py --program build/launch/unipool --golden   # prints the tables of golden_test.cc
"""
import argparse
import glob
import math
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch
from reference_data import END_OF_DOCUMENT, Random, Text, slices, write_tiny_dataset
from reference_model import Model

QUANTITIES = ["lm_loss", "pool_loss", "layer_aux_loss", "grad_norm", "lr", "validation_loss",
              "validation_bits_per_byte"]
COLUMNS = QUANTITIES + ["weights"]
TOLERANCE = 1e-5  # absolute
NORM_TOLERANCE = 1e-4  # relative
WEIGHT_TOLERANCE = 1e-5  # relative to the largest weight of the tensor

# Defaults of optional settings, as in configs/run.proto.
DEFAULTS = {
    "seed": 1234, "model.kv_heads": 0, "model.head_dim": 0, "model.ffn_kind": "MOE",
    "model.rope_base": 1e6, "model.norm_eps": 1e-5,
    "pool.layers_per_pool": 0, "pool.top_k": 1, "pool.router": "NORM", "pool.router_eps": 1e-8,
    "pool.router_c": 0, "pool.pool_loss": 0.001, "pool.layer_loss": 0, "pool.bias_rate": 1e-3,
    "pool.statistics": "GLOBAL", "pool.layer_statistics": "LOCAL", "data.micro_batch": 0,
    "optimizer.beta1": 0.9, "optimizer.beta2": 0.999, "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.01, "optimizer.clip_norm": 1.0,
    "schedule.convention": "MEGATRON", "eval.every_steps": 1000,
}

# Each variant is a set of changes to command_support.SETTINGS. With a small eps, AdamW turns
# rounding errors of gradients near zero into updates of full size; a large eps makes final weights
# comparable.
VARIANTS = {
    "dense": {"model.ffn_kind": "DENSE"},
    "vanilla": {"pool.layers_per_pool": 1, "pool.router": "SOFTMAX", "pool.layer_loss": 0.01,
                "pool.pool_loss": 0, "optimizer.eps": 1e-4},
    "unipool": {},
    "top2": {"pool.top_k": 2},
    # Many of the five choices have no positive score, so they are not sent.
    "unrouted": {"pool.top_k": 5, "pool.pool_loss": 0.05, "optimizer.eps": 1e-4},
    # Pools of two layers, both balance losses, schedule PLAIN, gradient accumulation, strong
    # clipping, one key-value head.
    "grouped": {"model.layers": 4, "pool.layers_per_pool": 2, "pool.top_k": 2,
                "pool.layer_loss": 0.002, "pool.pool_loss": 0.005, "schedule.convention": "PLAIN",
                "data.micro_batch": 2, "optimizer.clip_norm": 0.1, "model.kv_heads": 1,
                "eval.every_steps": 4, "optimizer.eps": 1e-4},
    # Softmax router with one pool, top 3, several epochs, weight gradients of 3 layers at a time.
    "shared_softmax": {"model.layers": 4, "pool.router": "SOFTMAX", "pool.top_k": 3,
                       "pool.layer_loss": 0.02, "data.global_batch": 70, "data.micro_batch": 9,
                       "pool.gradient_layers": 3, "model.kv_heads": 0,
                       "parallel.expert_parallel": 1},
    # The paper's ablations and granularities, with its coefficients if it gives them.
    "shared_softmax_layer_loss": {"pool.router": "SOFTMAX", "pool.layer_loss": 0.01,
                                  "pool.pool_loss": 0, "data.micro_batch": 2},
    "shared_softmax_pool_loss": {"pool.router": "SOFTMAX", "data.micro_batch": 2},
    "vanilla_top2": {"pool.layers_per_pool": 1, "pool.router": "SOFTMAX", "pool.layer_loss": 0.01,
                     "pool.pool_loss": 0, "pool.top_k": 2, "pool.experts": 16,
                     "data.micro_batch": 2, "optimizer.eps": 1e-4},
    "vanilla_top4": {"pool.layers_per_pool": 1, "pool.router": "SOFTMAX", "pool.layer_loss": 0.01,
                     "pool.pool_loss": 0, "pool.top_k": 4, "pool.experts": 32,
                     "optimizer.eps": 1e-4},
    "unipool_top4": {"pool.top_k": 4, "pool.experts": 32, "data.micro_batch": 1},
    "sigmoid": {"pool.layers_per_pool": 1, "pool.router": "SIGMOID_BIAS",
                "pool.pool_loss": 0, "data.micro_batch": 2, "optimizer.eps": 1e-4},
    "sigmoid_top2": {"pool.layers_per_pool": 1, "pool.router": "SIGMOID_BIAS", "pool.top_k": 2,
                     "pool.pool_loss": 0, "pool.bias_rate": 0.01},
    "sigmoid_pool": {"pool.router": "SIGMOID_BIAS", "pool.pool_loss": 0.02, "pool.top_k": 3,
                     "pool.bias_rate": 0.02, "data.micro_batch": 3},
    # The authors' LOCAL statistics, alone and with other settings that depend on the micro-batches.
    "local": {"pool.statistics": "LOCAL", "pool.layer_loss": 0.01, "data.micro_batch": 4},
    "local_grouped": {"model.layers": 4, "pool.layers_per_pool": 2, "pool.statistics": "LOCAL",
                      "pool.layer_loss": 0.02, "pool.top_k": 2, "data.micro_batch": 2},
    "global_layer_loss": {"pool.layers_per_pool": 1, "pool.layer_statistics": "GLOBAL",
                          "pool.layer_loss": 0.05, "data.micro_batch": 4, "optimizer.eps": 1e-4},
    # NormRouter with one pool per layer and an estimated constant, large head_dim, no clipping.
    "vanilla_norm": {"model.layers": 4, "pool.layers_per_pool": 1, "pool.experts": 24,
                     "pool.router_c": 0, "model.heads": 3, "model.kv_heads": 1,
                     "model.head_dim": 14, "optimizer.clip_norm": 0, "optimizer.weight_decay": 0.3,
                     "optimizer.beta1": 0.8, "optimizer.beta2": 0.95, "model.rope_base": 100,
                     "model.norm_eps": 1e-3, "data.global_batch": 7, "eval.sequences": 0,
                     "optimizer.eps": 1e-4},
}

# Changes of tests/support/tiny_run.cc to command_support.SETTINGS.
TINY = {"model.hidden": 16, "model.ffn": 24, "model.sequence": 16, "schedule.decay_steps": 10,
        "optimizer.eps": 1e-8}
GOLDEN = {"kDense": "dense", "kVanilla": "vanilla", "kUniPool": "unipool", "kUniPoolTop2": "top2",
          "kSigmoid": "sigmoid_top2", "kUniPoolLocal": "local"}


def learning_rate(settings, step):
    """Returns the learning rate of a step: linear warmup, then cosine decay."""
    done = step - 1 if settings["schedule.convention"] == "MEGATRON" else step
    peak, low = settings["schedule.lr"], settings["schedule.min_lr"]
    warmup, decay = settings["schedule.warmup_steps"], settings["schedule.decay_steps"]
    if done <= warmup:
        return peak * done / warmup
    part = min(1, (done - warmup) / (decay - warmup))
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * part))


def adamw(settings, weights, gradients, moments, step, lr, factor):
    """Updates weights and moments in place; gradients are multiplied by `factor` first."""
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
    written = int((targets != END_OF_DOCUMENT).sum())  # the end of a document is not a byte of text
    return {"validation_loss": total / targets.numel(),
            "validation_bits_per_byte": total / math.log(2) / written}


class Counts:
    """The tokens per expert that balance losses use: those of the previous step (GLOBAL), of the
    rank's previous micro-batch (LOCAL pool loss), or of its current one (LOCAL layer loss)."""

    def __init__(self, settings, ranks):
        self.pool_is_local = settings["pool.statistics"] == "LOCAL"
        self.layer_is_local = settings["pool.layer_statistics"] == "LOCAL"
        self.previous_step, self.previous_micro, self.step = None, [None] * ranks, None

    def add(self, rank, counts):
        """Adds the counts of a micro-batch; returns the counts for its pool and its layer loss."""
        pool = self.previous_micro[rank] if self.pool_is_local else self.previous_step
        layer = counts if self.layer_is_local else self.previous_step
        self.previous_micro[rank] = counts
        self.step = [a + b for a, b in zip(self.step, counts)] if self.step else counts
        return pool, layer

    def finish_step(self):
        self.previous_step, self.step = self.step, None
        return self.previous_step


def step_losses(model, counts, batch, cuts):
    """Returns cross-entropy, pool loss and layer loss: means over micro-batches and ranks, weighted
    by their sizes."""
    (tokens, targets), sums = batch, [0, 0, 0]
    for rank, (first, end) in ((r, cut) for micro_step in cuts for r, cut in enumerate(micro_step)):
        if first == end:
            continue
        logits, scores, counted = model.forward(tokens[first:end])
        losses = (torch.nn.functional.cross_entropy(logits, targets[first:end].flatten()),
                  *model.balance(scores, *(counts.add(rank, counted) if counted else (None, None))))
        sums = [a + b * (end - first) / len(tokens) for a, b in zip(sums, losses)]
    return sums


def train(settings, prefix, initial, dtype, ranks=1):
    """Returns the records of steps 0, 1, ..., the final weights, and the model."""
    text, cuts, counts = Text(prefix, settings), slices(settings, ranks), Counts(settings, ranks)
    weights = {name: torch.from_numpy(w).to(dtype) for name, w in initial.items()}
    trained = {name: w.requires_grad_() for name, w in weights.items() if "router.bias" not in name}
    model, moments = Model(settings, weights), {}
    records = [dict(validate(model, text), step=0)]
    for step in range(1, settings["steps"] + 1):
        lm, pool, layer = step_losses(model, counts, text.training(step), cuts)
        values = torch.autograd.grad(lm + pool + layer, list(trained.values()), allow_unused=True)
        gradients = {name: torch.zeros_like(w) if g is None else g
                     for (name, w), g in zip(trained.items(), values)}
        norm = math.sqrt(sum(float((g.double()**2).sum()) for g in gradients.values()))
        clip, lr = settings["optimizer.clip_norm"], learning_rate(settings, step)
        adamw(settings, trained, gradients, moments, step, lr,
              min(1, clip / (norm + 1e-6)) if clip else 1)
        weights.update(trained)
        model.update_biases(counts.finish_step())
        records.append({"step": step, "lm_loss": float(lm), "pool_loss": float(pool),
                        "layer_aux_loss": float(layer), "grad_norm": norm, "lr": lr})
        if step == settings["steps"] or step % settings["eval.every_steps"] == 0:
            records[-1].update(validate(model, text))
    return records, {name: w.detach().numpy() for name, w in weights.items()}, model


def check_initial(settings, weights):
    """Checks weights after step 1 against the initialization from the seed. They must be equal
    because step 1 of schedule MEGATRON has learning rate 0."""
    for name, value in weights.items():
        expected = np.zeros(value.shape) if "router.bias" in name else np.ones(value.shape)
        if value.ndim > 1:
            normals = Random(settings["seed"], name).normals(value.size)
            expected = settings["model.init_std"] * normals.reshape(value.shape)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            expected /= math.sqrt(2 * settings["model.layers"])
        deviation = np.abs(expected - value).max()
        assert deviation <= 3e-7 * np.abs(expected).max(), f"initial {name}: {deviation}"


class Program:
    """Runs `unipool train` on one text and reads what it writes to run folders."""

    def __init__(self, support, folder, prefix):
        self.support, self.folder, self.prefix = support, folder, prefix

    def train(self, name, settings, ranks):
        run_dir = os.path.join(self.folder, name)
        done = self.support.run(self.support.train_command(self.prefix, run_dir, settings), ranks)
        assert done.returncode == 0, done.stderr
        files = glob.glob(os.path.join(run_dir, "checkpoints", "step_*", "model-*.safetensors"))
        tensors = [(name, np.array(values, np.float32).reshape(shape)) for file in files
                   for name, (shape, values) in self.support.read_tensors(file).items()]
        assert len(dict(tensors)) == len(tensors), "a tensor is in two files"
        return self.support.metrics(run_dir), dict(tensors)

    def initial(self, name, settings):
        weights = self.train(f"{name}-initial", dict(settings, **{
            "steps": 1, "schedule.convention": "MEGATRON"}), 0)[1]
        for name in (name for name in weights if name.endswith("router.bias")):
            weights[name] *= 0  # the step has changed the bias
        check_initial(dict(DEFAULTS, **settings), weights)
        return weights


def compare(ours, theirs, largest):
    """Compares records; returns messages about deviations above the tolerance. Updates `largest`,
    the maximum deviation of each quantity."""
    errors = []
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
                errors.append(f"step {record['step']} {key}: {record[key]:.9g}, "
                              f"the reference has {expected[key]:.9g}")
    return errors


def compare_weights(ours, theirs, largest):
    """Compares final weights; returns messages and updates `largest` as `compare` does."""
    assert sorted(ours) == sorted(theirs)
    errors = []
    for name, expected in theirs.items():
        deviation = float(np.abs(ours[name] - expected).max() / max(np.abs(expected).max(), 1e-9))
        largest["weights"] = max(largest["weights"], deviation)
        if not deviation <= WEIGHT_TOLERANCE:
            errors.append(f"final {name}: deviation {deviation:.3g} of its largest weight")
    return errors


def check_variant(program, name, base, dtype):
    """Prints one line per number of ranks (- is a single process); returns the number of errors."""
    settings, errors = dict(base, **VARIANTS[name]), 0
    initial = program.initial(name, settings)
    for ranks in (0, 1, 2, 3):
        theirs, their_weights, model = train(
            dict(DEFAULTS, **settings), program.prefix, initial, dtype, max(ranks, 1))
        ours, our_weights = program.train(f"{name}-{ranks}", settings, ranks)
        largest = dict.fromkeys(COLUMNS, 0)
        found = compare(ours, theirs, largest)
        found += compare_weights(our_weights, their_weights, largest)
        print(f"{name:26s}{ranks or '-':>5}" + "".join(
            f"{largest[key]:10.1e}" for key in COLUMNS) + f"{model.margin:10.0e}{model.ties:6.2f}")
        for error in found[:10]:
            print("  " + error)
        errors += len(found)
    return errors


def print_golden(support, folder):
    prefix = os.path.join(folder, "tiny")
    write_tiny_dataset(prefix)
    program = Program(support, folder, prefix)
    for constant, name in GOLDEN.items():
        settings = {**support.SETTINGS, **VARIANTS[name], **TINY}
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
    parser.add_argument("--variant", choices=VARIANTS, help="compare only this variant")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--float32", action="store_true", help="compute the reference in float32")
    parser.add_argument("--golden", action="store_true", help="print tables for golden_test.cc")
    arguments = parser.parse_args()
    os.environ["UNIPOOL_PROGRAM"] = os.path.abspath(arguments.program)
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
    import command_support as support  # reads UNIPOOL_PROGRAM when imported
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.golden:
            print_golden(support, folder)
            return 0
        program = Program(support, folder, support.write_text(folder))
        base = dict(support.SETTINGS, **{"steps": arguments.steps,
                                         "schedule.decay_steps": arguments.steps})
        heads = [key.replace("validation_", "v_")[:9] for key in COLUMNS + ["margin"]]
        print("largest deviation".ljust(31) + "".join(f"{head:>10s}" for head in heads) + "  ties")
        dtype = torch.float32 if arguments.float32 else torch.float64
        names = [arguments.variant] if arguments.variant else list(VARIANTS)
        return min(1, sum(check_variant(program, name, base, dtype) for name in names))


if __name__ == "__main__":
    sys.exit(main())
