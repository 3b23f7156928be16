#!/usr/bin/env python3
"""`unipool config show`: the parameter counts of the paper's models to the last digit, and a row a
rank that adds up."""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import command_support as support

CONFIGS = support.ROOT / "configs"
SCALES = ["182m", "469m", "650m", "830m", "978m"]
BAD_INPUT = 2

DENSE = dict(zip(SCALES, [182471424, 469812224, 652289024, 834765824, 978396672]))
VANILLA = dict(zip(SCALES, [777087744, 2583938048, 3823477760, 5063017472, 5735032320]))
UNIPOOL = dict(zip(SCALES, [777898764, 2588460056, 3833799716, 5081498672, 5741815320]))

# Of every config of the paper. A sigma a layer is what a softmax or sigmoid router lacks.
TOTALS = {
    **{f"dense_{scale}": total for scale, total in DENSE.items()},
    **{f"moe_{scale}": total for scale, total in VANILLA.items()},
    **{f"unipool_{scale}": total for scale, total in UNIPOOL.items()},
    "unipool_182m_48e": 437717772, "unipool_182m_64e": 551111436,
    "unipool_469m_64e": 974701592, "unipool_469m_96e": 1378141208,
    "unipool_469m_128e": 1781580824, "unipool_650m_96e": 1410802724,
    "unipool_650m_128e": 1814635556, "unipool_650m_144e": 2016551972,
    "unipool_830m_128e": 1847690288, "unipool_830m_160e": 2251916336,
    "unipool_182m_g2": 777456396, "unipool_182m_g4": 777235212, "unipool_182m_g6": 777161484,
    "moe_182m_16e_top2": 1456638720, "moe_182m_32e_top4": 2815740672,
    "unipool_182m_192e_top2": 1458260748, "unipool_182m_384e_top4": 2818984716,
    "moe_182m_norm": 777087744 + 12, "moe_182m_sigmoid": 777087744,
    "unipool_182m_softmax": 777898764 - 12, "unipool_182m_softmax_layer_loss": 777898764 - 12,
}


def words(config, settings=None, ranks=None):
    command = ["config", "show", CONFIGS / f"{config}.textproto", "--set", "parallel.device=CPU"]
    for field, value in (settings or {}).items():
        command += ["--set", f"{field}={value}"]
    return command + (["--ranks", ranks] if ranks else [])


def counts_of(text):
    """The table of parameters by row name."""
    return {name: int(count) for name, count in
            re.findall(r"^#   (\w[\w -]*\w) +(\d+)$", text, re.MULTILINE)}


def field_paths(text):
    """The paths of all fields of a textproto that has one field per line."""
    paths, messages = set(), []
    for line in text.split("\n\n")[0].splitlines():
        if line.endswith("{"):
            messages.append(line.split()[0])
        elif line.strip() == "}":
            messages.pop()
        elif match := re.match(r" *(\w+): ", line):
            paths.add(".".join(messages + [match.group(1)]))
    return paths


def memory_of(text):
    """The rows of the memory table: rank, then MiB by column, the total last."""
    table = text.split("# memory of a rank")[1]
    rows = re.findall(r"^# +(\d+)((?: +\d+\.\d)+)$", table, re.MULTILINE)
    return [(int(rank), [float(number) for number in numbers.split()]) for rank, numbers in rows]


class ConfigShowTest(unittest.TestCase):
    def show(self, *arguments, **named):
        done = support.run(words(*arguments, **named))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def test_totals_are_the_papers(self):
        for config, total in TOTALS.items():
            with self.subTest(config=config):
                counts = counts_of(self.show(config))
                self.assertEqual(counts["total"], total)
                self.assertEqual(counts["on rank 0 of 1"], total)

    def test_every_config_of_the_paper_has_a_known_total(self):
        others = {"quickstart", "bench", "starter"}
        there = {path.stem for path in CONFIGS.glob("*.textproto")} - others
        self.assertEqual(there, set(TOTALS))

    def test_configs_are_what_their_tables_give(self):
        script = support.ROOT / "tools" / "make_configs.py"
        check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True,
                               check=False)
        self.assertEqual((check.returncode, check.stdout), (0, ""))

    def test_the_reference_is_current(self):
        script = support.ROOT / "tools" / "make_config_reference.py"
        check = subprocess.run([sys.executable, "-B", script, "--check"], capture_output=True,
                               text=True, check=False)
        self.assertEqual((check.returncode, check.stdout), (0, ""))

    def test_the_reference_has_an_anchor_for_each_field(self):
        anchors = set(re.findall(r'^\| <a id="([\w.]+)">', (CONFIGS / "reference.md").read_text(),
                                 re.MULTILINE))
        self.assertEqual(anchors - {"data.source.prefix", "data.source.weight"},
                         field_paths(self.show("unipool_182m")))

    def test_a_former_name_is_a_warning_on_the_first_rank(self):
        warning = "divergence.most_rewinds is now divergence.max_rewinds; please rename it"
        for rank, expected in (("0", 1), ("1", 0)):
            done = support.run(words("bench", {"divergence.most_rewinds": 5}),
                               environment={"OMPI_COMM_WORLD_RANK": rank})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stderr.count(warning), expected, done.stderr)
            self.assertIn("  max_rewinds: 5\n", done.stdout)
            self.assertNotIn("most_", done.stdout)

    def test_parts_are_those_of_the_formula(self):
        counts = counts_of(self.show("unipool_182m"))
        self.assertEqual(counts["embedding"] + counts["output head"], 78643200)
        self.assertEqual(counts["attention"], 18874368)
        self.assertEqual(counts["norms"], 19200)
        self.assertEqual(counts["experts"], 679477248)
        self.assertEqual(counts["routers"], 884736)
        self.assertEqual(counts["router scales"], 12)

    def test_a_token_meets_the_dense_model_the_routers_and_its_other_experts(self):
        one_expert, routers = 7077888, 12 * (192 * 768 + 1)
        for top_k in (1, 2, 4):
            settings = {"pool.experts": 192, "pool.top_k": top_k}
            active = counts_of(self.show("unipool_182m", settings))["active per token"]
            self.assertEqual(active, DENSE["182m"] + routers + (top_k - 1) * 12 * one_expert)
        self.assertEqual(counts_of(self.show("dense_182m"))["active per token"],
                         DENSE["182m"])

    def test_experts_of_seven_ranks_add_up(self):
        for config, experts, one_expert in (("unipool_182m", 96, 7077888),
                                            ("unipool_650m", 288, 12582912),
                                            ("moe_182m", 96, 7077888)):
            counts = counts_of(self.show(config, ranks=7))
            self.assertEqual(counts["experts"], experts * one_expert)
            replicated = counts["total"] - counts["experts"]
            rows = [counts[f"on rank {rank} of 7"] - replicated for rank in range(7)]
            self.assertEqual([row % one_expert for row in rows], [0] * 7)
            owned = [row // one_expert for row in rows]
            self.assertEqual(sum(owned), experts)
            self.assertLessEqual(max(owned) - min(owned), 1, f"{config}: {owned}")
            self.assertNotIn("on rank 7 of 7", counts)

    def test_memory_on_a_gpu_has_weights_of_two_bytes_and_masters_of_four(self):
        text = self.show("unipool_182m", {"parallel.device": "CUDA"})
        (_, parts), = memory_of(text)
        weights, masters, gradients, moments, activations, _, total = parts
        self.assertAlmostEqual(masters, 777898764 * 4 / 2**20, delta=0.05)
        self.assertAlmostEqual(2 * weights, masters, delta=0.1)
        self.assertAlmostEqual(weights + masters + gradients + moments + activations, total,
                               delta=0.3)

    def test_memory_has_a_row_a_rank_that_adds_up(self):
        text = self.show("unipool_182m", ranks=7)
        counts, rows = counts_of(text), memory_of(text)
        self.assertEqual([rank for rank, _ in rows], list(range(7)))
        for rank, (*parts, total) in rows:
            self.assertAlmostEqual(sum(parts), total, delta=0.25)
            weights = counts[f"on rank {rank} of 7"] * 4 / 2**20
            self.assertAlmostEqual(parts[0], weights, delta=0.05)

    def test_each_recompute_has_its_activations_and_the_chosen_ones_are_planned(self):
        sizes = {}
        for chosen in ("NONE", "EXPERT", "BLOCK"):
            text = self.show("moe_182m", {"model.recompute": chosen})
            rows = re.findall(r"^#   (NONE|EXPERT|BLOCK) +(\d+\.\d)(  chosen)?$", text,
                              re.MULTILINE)
            sizes = {name: float(size) for name, size, _ in rows}
            self.assertEqual([name for name, _, mark in rows if mark], [chosen])
            self.assertEqual(memory_of(text)[0][1][3], sizes[chosen])
        self.assertLess(sizes["EXPERT"], 0.8 * sizes["NONE"])
        self.assertLess(sizes["BLOCK"], 0.8 * sizes["EXPERT"])

    def test_what_it_shows_is_a_config(self):
        once = self.show("unipool_182m", {"seed": 77})
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "shown.textproto")
            path.write_text(once)
            again = support.run(["config", "show", path])
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stdout, once)
        self.assertIn("seed: 77", once)

    def test_ranks_that_cannot_share_the_experts_are_refused(self):
        for ranks, settings in ((0, {}), ("x", {}), (7, {"parallel.expert_parallel": 2})):
            done = support.run(words("unipool_182m", settings, ranks=str(ranks)))
            self.assertEqual(done.returncode, BAD_INPUT)
            self.assertIn(str(ranks), done.stderr)


if __name__ == "__main__":
    unittest.main()
