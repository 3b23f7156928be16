#!/usr/bin/env python3
"""`unipool bench step` prints every figure, and the figures agree with each other."""
import re
import unittest

import command_support as support


def bench(ranks, settings, environment=None):
    command = ["bench", "step", "--steps", 3, "--profile"]
    for field, value in dict(support.SETTINGS, **settings, **{"data.prefix": "made up"}).items():
        command += ["--set", f"{field}={value}"]
    return support.run(command, ranks, environment=environment)


class BenchStepTest(unittest.TestCase):
    def figures(self, ranks, settings=None):
        done = bench(ranks, settings or {})
        self.assertEqual(done.returncode, 0, done.stderr)
        return {name: [float(number) for number in re.findall(r"\d+\.\d+|\d+", rest)]
                for name, rest in re.findall(r"^(\S+(?: \S+)*)  +(.*)$", done.stdout, re.MULTILINE)}

    def test_speed_is_tokens_over_time_on_any_number_of_ranks(self):
        for ranks in (0, 2):
            figures = self.figures(ranks)
            tokens = support.SETTINGS["data.global_batch"] * support.SETTINGS["model.sequence"]
            printed = figures["tokens/s"][0] * figures["step"][0]
            self.assertAlmostEqual(printed / tokens, 1, delta=0.1)
            self.assertLessEqual(figures["step"][1], figures["step"][0])
            layer, pool = figures["imbalance"]
            self.assertGreaterEqual(layer, pool)
            self.assertGreaterEqual(pool, 1)

    def test_exposed_exchange_is_a_part_of_a_step_of_several_ranks(self):
        self.assertNotIn("exposed", self.figures(0))
        figures = self.figures(2)
        (seconds, share), step, rounding = figures["exposed"], figures["step"][0], 0.00005
        self.assertGreater(seconds, 0)
        self.assertLess(seconds, step)
        self.assertGreaterEqual(share + 0.05, 100 * (seconds - rounding) / (step + rounding))
        self.assertLessEqual(share - 0.05, 100 * (seconds + rounding) / (step - rounding))

    def test_chunks_are_those_of_the_config_else_found_by_trial(self):
        self.assertEqual(self.figures(2, {"parallel.exchange_chunks": 2})["exchange"], [2])
        chosen, *rest = self.figures(2)["exchange"]
        tried = rest[1::2]
        self.assertIn(chosen, (1, 2, 4, 8))
        self.assertGreaterEqual(len(tried), 1)
        self.assertNotIn(chosen, tried)

    def test_threads_are_those_of_the_config_else_openmps(self):
        given = {"parallel.threads": 3}
        for settings, environment, expected in (({}, {"OMP_NUM_THREADS": "2"}, "1 x 2"),
                                                (given, {"OMP_NUM_THREADS": "2"}, "1 x 3"),
                                                (given, {}, "1 x 3")):
            done = bench(0, settings, environment)
            self.assertIn(f"ranks x threads {expected}", done.stdout, done.stderr)

    def test_a_dense_model_exchanges_nothing(self):
        figures = self.figures(2, {"model.ffn_kind": "DENSE"})
        self.assertNotIn("exposed", figures)
        self.assertNotIn("imbalance", figures)


if __name__ == "__main__":
    unittest.main()
