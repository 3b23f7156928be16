#!/usr/bin/env python3
"""Baseline for speed: a training step of the paper's 182M UniPool in compiled PyTorch, with flash
attention and one grouped matrix product for all experts. Computes in bfloat16 with float32 weights.

usage: gpu_torch.py [--sequences N] [--small]

The last line has tokens/s, and the share of the dense bfloat16 rate that the same run measures.
--small runs a tiny model on the CPU, to test this script.
"""
import argparse
import math
import time

import torch
import torch.nn.functional as F


class Config:
    vocab, hidden, layers, heads, kv_heads, sequence = 51200, 768, 12, 12, 4, 1024
    ffn, experts, lr, alpha, router_c = 3072, 96, 5e-4, 0.01, 7.0


class SmallConfig(Config):
    vocab, hidden, layers, heads, kv_heads, sequence = 128, 32, 2, 4, 2, 16
    ffn, experts = 64, 4


def rms_norm(x, weight):
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def grouped(rows, weight, offsets):
    """Multiplies rows [n, in], sorted by expert, by weight [experts, in, out]; offsets [experts]
    are the ends of the experts' rows. Returns [n, out]."""
    if rows.is_cuda:
        return torch._grouped_mm(rows, weight, offs=offsets)
    ends = [0] + offsets.tolist()
    return torch.cat([rows[ends[e]:ends[e + 1]] @ weight[e] for e in range(weight.shape[0])])


class UniPool(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.head_dim = c.hidden // c.heads
        width = (c.heads + 2 * c.kv_heads) * self.head_dim

        def matrix(*shape):
            return torch.nn.Parameter(torch.randn(*shape) * 0.01)

        self.embedding = matrix(c.vocab, c.hidden)
        self.head = matrix(c.vocab, c.hidden)
        self.gate_up = matrix(c.experts, c.hidden, 2 * c.ffn)
        self.down = matrix(c.experts, c.ffn, c.hidden)
        self.norm = torch.nn.Parameter(torch.ones(c.hidden))
        self.layers = torch.nn.ModuleList()
        for _ in range(c.layers):
            layer = torch.nn.Module()
            layer.qkv, layer.o = matrix(width, c.hidden), matrix(c.hidden, c.hidden)
            layer.router = matrix(c.experts, c.hidden)
            layer.scale = torch.nn.Parameter(torch.ones(1))
            layer.norm1 = torch.nn.Parameter(torch.ones(c.hidden))
            layer.norm2 = torch.nn.Parameter(torch.ones(c.hidden))
            self.layers.append(layer)
        angles = torch.outer(torch.arange(c.sequence).float(),
                             1e6 ** (-torch.arange(0, self.head_dim, 2).float() / self.head_dim))
        table = torch.cat((angles, angles), -1)
        self.register_buffer("cos", table.cos().bfloat16())
        self.register_buffer("sin", table.sin().bfloat16())

    def attention(self, layer, x):
        c, (batch, sequence, _) = self.config, x.shape
        qkv = F.linear(x, layer.qkv.bfloat16()).view(batch, sequence, -1, self.head_dim)
        q, k, v = qkv.transpose(1, 2).split((c.heads, c.kv_heads, c.kv_heads), 1)
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        if x.is_cuda:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            repeat = c.heads // c.kv_heads
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
            scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(self.head_dim)
            mask = torch.ones(sequence, sequence).tril().bool()
            out = scores.masked_fill(~mask, -math.inf).softmax(-1).to(v.dtype) @ v
        return F.linear(out.transpose(1, 2).reshape(batch, sequence, -1), layer.o.bfloat16())

    def experts(self, layer, x, gate_up, down, previous):
        c = self.config
        flat = x.reshape(-1, c.hidden)
        logits = F.linear(flat.float(), layer.router)
        unit = logits / (logits.norm(dim=-1, keepdim=True) + 1e-8)
        scores = layer.scale * c.router_c * F.relu(unit)
        gates, ids = scores.max(-1)
        order = ids.argsort(stable=True)
        counts = torch.zeros(c.experts, device=x.device, dtype=torch.int32).scatter_add(
            0, ids, torch.ones_like(ids, dtype=torch.int32))
        offsets = counts.cumsum(0).int()
        gate, up = grouped(flat[order], gate_up, offsets).chunk(2, -1)
        results = grouped(F.silu(gate) * up, down, offsets)
        y = torch.empty_like(results).index_copy(0, order, results) * gates.to(x.dtype)[:, None]
        balance = c.experts * (previous * scores.mean(0)).sum() / c.layers
        return y.view_as(x), balance, counts

    def forward(self, tokens, targets, previous):
        c = self.config
        # All layers share the pool, so its weights are converted once per step.
        gate_up, down = self.gate_up.bfloat16(), self.down.bfloat16()
        x, balance, counts = F.embedding(tokens, self.embedding).bfloat16(), 0, 0
        for layer in self.layers:
            x = x + self.attention(layer, rms_norm(x, layer.norm1.bfloat16()))
            normed = rms_norm(x, layer.norm2.bfloat16())
            y, b, n = self.experts(layer, normed, gate_up, down, previous)
            x, balance, counts = x + y, balance + b, counts + n
        x, head = rms_norm(x, self.norm.bfloat16()).view(-1, c.hidden), self.head.bfloat16()
        losses = 0
        for chunk, target in zip(x.split(8192), targets.view(-1).split(8192)):  # limits memory
            losses = losses + torch.utils.checkpoint.checkpoint(
                lambda h, t: F.cross_entropy(F.linear(h, head).float(), t, reduction="sum"),
                chunk, target, use_reentrant=False)
        return losses / targets.numel() + c.alpha * balance, counts


def flops_per_token(c):
    """Returns the floating-point operations per token of forward and backward, causal attention
    counted once, as in `unipool bench step`."""
    head_dim = c.hidden // c.heads
    attention = c.hidden * (c.heads + 2 * c.kv_heads) * head_dim + c.heads * head_dim * c.hidden
    layer = attention + c.hidden * c.experts + 3 * c.hidden * c.ffn
    return 6 * (c.layers * layer + c.vocab * c.hidden) + \
        6 * c.layers * c.heads * head_dim * (c.sequence + 1)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def median_seconds(run, repeats, device):
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[repeats // 2]


def main():
    import torch.utils.checkpoint
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    device, config = ("cpu", SmallConfig) if args.small else ("cuda", Config)
    torch.manual_seed(1)
    model = UniPool(config).to(device)
    step_model = model if args.small else torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.01,
                                  **({} if args.small else {"fused": True}))
    text = torch.randint(config.vocab, (args.sequences, config.sequence + 1), device=device)
    previous = torch.full((config.experts,), 1.0 / config.experts, device=device)

    def step():
        nonlocal previous
        loss, counts = step_model(text[:, :-1], text[:, 1:].contiguous(), previous)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        previous = counts.float() / counts.sum()
        return loss

    first = step().item()
    for _ in range(2):
        last = step().item()
    seconds = median_seconds(step, 5, device)
    n = 64 if args.small else 8192
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    a @ b
    dense = 2 * n ** 3 / median_seconds(lambda: a @ b, 10, device)
    tokens = args.sequences * config.sequence / seconds
    if device == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    print(f"losses {first:.4f}, {last:.4f}; dense bf16 {dense / 1e12:.0f} TFLOP/s")
    print(f"{tokens:.0f} tokens/s, {100 * tokens * flops_per_token(config) / dense:.1f} %")


if __name__ == "__main__":
    main()
