#!/usr/bin/env python3
"""The final checkpoint of a run, read with plain Python: the names and shapes that other programs
rely on, each tensor once, whatever the number of ranks."""
import math
import os
import unittest

import command_support as support

VOCAB, HIDDEN, FFN, EXPERTS, LAYERS = 257, 32, 48, 7, 3
KEY_WIDTH = 2 * HIDDEN // 4  # 2 of 4 heads


def swiglu(prefix):
    return {f"{prefix}.gate_proj.weight": [FFN, HIDDEN], f"{prefix}.up_proj.weight": [FFN, HIDDEN],
            f"{prefix}.down_proj.weight": [HIDDEN, FFN]}


def layer_shapes(prefix, variant):
    shapes = {f"{prefix}.input_layernorm.weight": [HIDDEN],
              f"{prefix}.post_attention_layernorm.weight": [HIDDEN],
              f"{prefix}.self_attn.q_proj.weight": [HIDDEN, HIDDEN],
              f"{prefix}.self_attn.k_proj.weight": [KEY_WIDTH, HIDDEN],
              f"{prefix}.self_attn.v_proj.weight": [KEY_WIDTH, HIDDEN],
              f"{prefix}.self_attn.o_proj.weight": [HIDDEN, HIDDEN]}
    if variant == "dense":
        return dict(shapes, **swiglu(f"{prefix}.mlp"))
    shapes[f"{prefix}.mlp.router.weight"] = [EXPERTS, HIDDEN]
    if variant != "vanilla":  # whose router is a softmax, without a scale
        shapes[f"{prefix}.mlp.router.scale"] = [1]
    return shapes


def model_shapes(variant):
    """Every name with its shape [out, in]."""
    shapes = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN],
              "lm_head.weight": [VOCAB, HIDDEN]}
    for layer in range(LAYERS):
        shapes.update(layer_shapes(f"model.layers.{layer}", variant))
    pools = {"dense": 0, "vanilla": LAYERS}.get(variant, 1)
    for pool in range(pools):
        for expert in range(EXPERTS):
            shapes.update(swiglu(f"model.expert_pools.{pool}.experts.{expert}"))
    return shapes


class CheckpointReadTest(support.TextTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.runs = {}

    def train(self, variant, ranks):
        """The tensors of all files of the run's checkpoint, and how many files there are."""
        if (variant, ranks) not in self.runs:
            self.runs[variant, ranks] = self.train_new_run(variant, ranks)
        return self.runs[variant, ranks]

    def train_new_run(self, variant, ranks):
        run_dir = os.path.join(self.folder.name, f"{variant}-{ranks}")
        command = support.train_command(self.prefix, run_dir, support.VARIANTS[variant])
        done = support.run(command, ranks)
        self.assertEqual(done.returncode, 0, done.stderr)
        files = sorted(support.latest_checkpoint(run_dir).glob("model-*.safetensors"))
        tensors = {}
        for path in files:
            mine = support.read_tensors(path)
            self.assertFalse(mine.keys() & tensors.keys(), f"twice: {path}")
            tensors.update(mine)
        return tensors, len(files)

    def test_names_and_shapes_are_the_documented_ones(self):
        for variant in support.VARIANTS:
            with self.subTest(variant=variant):
                tensors, files = self.train(variant, 0)
                self.assertEqual(files, 1)
                self.assertEqual({name: shape for name, (shape, _) in tensors.items()},
                                 model_shapes(variant))

    def test_values_fill_their_shapes_and_are_trained(self):
        tensors, _ = self.train("unipool", 0)
        for name, (shape, values) in tensors.items():
            self.assertEqual(len(values), math.prod(shape), name)
            self.assertTrue(all(map(math.isfinite, values)), name)
            self.assertGreater(len(set(values)), len(values) // 2, name)
        self.assertNotEqual(set(tensors["model.norm.weight"][1]), {1.0})

    def test_three_ranks_write_what_one_does(self):
        (one, _), (three, files) = self.train("top2", 0), self.train("top2", 3)
        self.assertEqual(files, 3)
        self.assertEqual(one.keys(), three.keys())
        for name, (shape, values) in one.items():
            self.assertEqual(three[name][0], shape, name)
            for a, b in zip(values, three[name][1]):
                self.assertAlmostEqual(a, b, delta=1e-3, msg=name)


if __name__ == "__main__":
    unittest.main()
