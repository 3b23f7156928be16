#!/usr/bin/env python3
"""Writes the configs of the paper (arXiv 2605.06665) to configs/: one file for each scale and
variant of its tables, from the two tables below.

    make_configs.py            # writes the files
    make_configs.py --check    # lists files that differ from the tables; exits with 1 if any do
"""
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs"
VANILLA_EXPERTS = 8  # per layer in vanilla MoE; a full pool has as many in total
LAYER_LOSS = 0.01

# name: hidden, layers, heads, coefficient of the pool loss
SCALES = {
    "182m": (768, 12, 12, 0.01),
    "469m": (1024, 24, 16, 0.02),
    "650m": (1024, 36, 16, 0.02),
    "830m": (1024, 48, 16, 0.02),
    "978m": (1536, 24, 16, 0.02),
}

# NormRouter's constant c is a noisy estimate for 16 experts or fewer, so configs set it. These are
# the values of the authors' generator; for 8 experts without its 368 draws that have no positive
# component.
C_OF_8, C_OF_16 = 2.680317804542541, 2.411163302099313


def dense(_layers, _alpha):
    return {}


def moe(experts=VANILLA_EXPERTS, top_k=1, router="SOFTMAX", layer_loss=LAYER_LOSS, **more):
    return lambda layers, alpha: {
        "experts": experts, "layers_per_pool": 1, "top_k": top_k, "router": router, **more,
        "pool_loss": 0, "layer_loss": layer_loss}


def unipool(experts=None, top_k=1, router="NORM", groups=1, **more):
    """`experts` counts those of all pools together; by default as many as vanilla MoE has."""
    return lambda layers, alpha: {
        "experts": (experts or VANILLA_EXPERTS * layers) // groups,
        "layers_per_pool": layers // groups, "top_k": top_k, "router": router,
        **{"pool_loss": alpha, **more}}


ALL = list(SCALES)

# name, scales, pool, description
VARIANTS = [
    ("dense_{}", ALL, dense, "one feed-forward network a layer"),
    ("moe_{}", ALL, moe(), "vanilla MoE"),
    ("unipool_{}", ALL, unipool(), "one pool for all layers, of as many experts as vanilla MoE"),
    ("unipool_{}_48e", ["182m"], unipool(48), "a reduced pool"),
    ("unipool_{}_64e", ["182m", "469m"], unipool(64), "a reduced pool"),
    ("unipool_{}_96e", ["469m", "650m"], unipool(96), "a reduced pool"),
    ("unipool_{}_128e", ["469m", "650m", "830m"], unipool(128), "a reduced pool"),
    ("unipool_{}_144e", ["650m"], unipool(144), "a reduced pool"),
    ("unipool_{}_160e", ["830m"], unipool(160), "a reduced pool"),
    ("unipool_{}_g2", ["182m"], unipool(groups=2), "a pool for each half of the layers"),
    ("unipool_{}_g4", ["182m"], unipool(groups=4), "a pool for each fourth of the layers"),
    ("unipool_{}_g6", ["182m"], unipool(groups=6, router_c=C_OF_16),
     "a pool for each sixth of the layers"),
    ("moe_{}_16e_top2", ["182m"], moe(16, 2), "vanilla MoE, two of 16 experts a layer"),
    ("moe_{}_32e_top4", ["182m"], moe(32, 4), "vanilla MoE, four of 32 experts a layer"),
    ("unipool_{}_192e_top2", ["182m"], unipool(192, 2), "as many experts as 16 a layer, two used"),
    ("unipool_{}_384e_top4", ["182m"], unipool(384, 4), "as many experts as 32 a layer, four used"),
    ("moe_{}_norm", ["182m"], moe(router="NORM", router_c=C_OF_8), "vanilla MoE with NormRouter"),
    ("moe_{}_sigmoid", ["182m"], moe(router="SIGMOID_BIAS", layer_loss=0),
     "vanilla MoE balanced by a bias instead of a loss"),
    ("unipool_{}_softmax_layer_loss", ["182m"],
     unipool(router="SOFTMAX", pool_loss=0, layer_loss=LAYER_LOSS),
     "one pool, softmax router, each layer balanced by itself"),
    ("unipool_{}_softmax", ["182m"], unipool(router="SOFTMAX"), "one pool, softmax router"),
]

TEMPLATE = """\
# The paper's {scale} scale: {what}. Written by tools/make_configs.py.
run_dir: "runs/{name}"
steps: 60000
model {{
  vocab: 51200
  hidden: {hidden}
  layers: {layers}
  heads: {heads}
  kv_heads: 4
  sequence: 1024
  init_std: 0.01
{ffn_kind}}}
{pool}data {{
  prefix: "data/pile/pile_text_document"
  split: "969,30,1"
  global_batch: 512
  micro_batch: 16
  tokenizer: GPT2
  order: MEGATRON
}}
schedule {{
  lr: 5e-4
  min_lr: 5e-5
  warmup_steps: 600
}}
eval {{
  every_steps: 1000
  sequences: 51200
  window: ADVANCING
  test: true
}}
"""


def texts():
    """{file name: text} of all configs."""
    made = {}
    for pattern, scales, pool_of, what in VARIANTS:
        for scale in scales:
            hidden, layers, heads, alpha = SCALES[scale]
            pool = pool_of(layers, alpha)
            fields = "".join(f"  {field}: {value}\n" for field, value in pool.items())
            name = pattern.format(scale)
            made[name + ".textproto"] = TEMPLATE.format(
                scale=scale.upper(), what=what, name=name,
                hidden=hidden, layers=layers, heads=heads,
                ffn_kind="" if pool else "  ffn_kind: DENSE\n",
                pool=f"pool {{\n{fields}}}\n" if pool else "")
    return made


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = 0
    for name, text in texts().items():
        path = FOLDER / name
        if not arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path}: differs from the tables; run tools/make_configs.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
