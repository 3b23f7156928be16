"""The model and its balance losses for reference.py, implemented independently from the
description: autograd, one rank, one expert at a time."""
import math

import numpy as np
import torch


def router_constant(settings):
    """Returns the mean of 1 / |top-k of relu(x / |x|)| over 1e5 normal vectors x, without those
    whose top-k norm is 0."""
    if settings["pool.router_c"]:
        return settings["pool.router_c"]
    x = np.random.RandomState(42).standard_normal((100000, settings["pool.experts"]))
    x = np.maximum(x / np.linalg.norm(x, axis=1, keepdims=True), 0)
    top = np.sort(x, axis=1)[:, -settings["pool.top_k"]:]
    norms = np.linalg.norm(top, axis=1)
    return float(np.mean(1 / norms[norms > 0]))


class Model:
    """The transformer with shared expert pools; `weights` are tensors by their checkpoint names."""

    def __init__(self, settings, weights):
        self.settings, self.weights = settings, weights
        self.layers = settings["model.layers"]
        self.per_pool = settings["pool.layers_per_pool"] or self.layers
        self.heads = settings["model.heads"]
        self.kv_heads = settings["model.kv_heads"] or self.heads
        self.head_dim = settings["model.head_dim"] or settings["model.hidden"] // self.heads
        self.moe = settings["model.ffn_kind"] == "MOE"
        self.sigmoid = self.moe and settings["pool.router"] == "SIGMOID_BIAS"
        self.c = router_constant(settings)
        self.margin = math.inf  # smallest score difference that decided the choice of an expert
        self.ties = 0  # largest share of a layer's tokens whose choice was a tie

    def norm(self, x, name):
        mean_square = (x * x).mean(-1, keepdim=True)
        return x / torch.sqrt(mean_square + self.settings["model.norm_eps"]) * self.weights[name]

    def rotate(self, x):
        """Applies rotary position embeddings to x [batch, heads, sequence, head_dim]."""
        half = self.head_dim // 2
        pair = torch.arange(half, dtype=torch.float64)
        frequency = self.settings["model.rope_base"] ** (-2 * pair / self.head_dim)
        angle = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * frequency
        cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
        low, high = x[..., :half], x[..., half:]
        return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)

    def attention(self, x, prefix):
        batch, length, _ = x.shape

        def project(name, heads):
            y = x @ self.weights[f"{prefix}.{name}_proj.weight"].T
            return y.view(batch, length, heads, self.head_dim).transpose(1, 2)

        q, k = self.rotate(project("q", self.heads)), self.rotate(project("k", self.kv_heads))
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
        """Returns the router's scores [tokens, experts]."""
        logits = x @ self.weights[f"{prefix}.weight"].T
        if self.settings["pool.router"] == "SOFTMAX":
            return torch.softmax(logits, -1)
        if self.settings["pool.router"] == "SIGMOID_BIAS":
            return torch.sigmoid(logits)
        length = torch.linalg.vector_norm(logits, dim=-1, keepdim=True)
        unit = logits / (length + self.settings["pool.router_eps"])
        return self.weights[f"{prefix}.scale"] * self.c * torch.relu(unit)

    def bias(self, layer):
        return self.weights[f"model.layers.{layer}.mlp.router.bias"]

    def update_biases(self, counts):
        """Updates the router biases from the counts of a whole step, summed over all ranks."""
        for layer in range(self.layers if self.sigmoid else 0):
            count = counts[layer].double()
            self.weights[f"model.layers.{layer}.mlp.router.bias"] = self.bias(layer) + (
                self.settings["pool.bias_rate"] * torch.sign(count.mean() - count))

    def experts(self, x, layer):
        scores = self.route(x, f"model.layers.{layer}.mlp.router")
        top_k = self.settings["pool.top_k"]
        # A stable sort prefers the lowest id among equal scores.
        ranked = scores + self.bias(layer) if self.sigmoid else scores
        ordered, order = torch.sort(ranked, dim=-1, descending=True, stable=True)
        ids, gates = order[:, :top_k], scores.gather(1, order[:, :top_k])
        if self.sigmoid and top_k > 1:
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        gaps = ordered[:, top_k - 1] - ordered[:, top_k]
        gaps = gaps[gaps > 0].tolist()  # without ties
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
        """Returns logits [tokens, vocab]; scores and tokens per expert as lists over layers."""
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

    def balance(self, scores, pool_counts, layer_counts):
        """Returns pool and layer balance loss of a micro-batch. Counts are a list over layers; a
        loss whose counts are None is 0."""
        pool = layer = next(iter(self.weights.values())).new_zeros(())
        for i, layer_scores in enumerate(scores):
            mean, experts = layer_scores.mean(0), layer_scores.shape[1]
            if pool_counts is not None:
                first = i // self.per_pool * self.per_pool
                together = sum(pool_counts[first:first + self.per_pool])
                share = (together / together.sum()).to(mean.dtype)
                alpha = self.settings["pool.pool_loss"] * experts / self.per_pool
                pool = pool + alpha * (share * mean).sum()
            if layer_counts is not None:
                share = (layer_counts[i] / layer_counts[i].sum()).to(mean.dtype)
                layer = layer + self.settings["pool.layer_loss"] * experts * (share * mean).sum()
        return pool, layer
