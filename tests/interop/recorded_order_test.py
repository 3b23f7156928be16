#!/usr/bin/env python3
"""`order: MEGATRON` gives the samples that megatron-core gave when recorded_orders.json was written
(interop_order_test.py --record)."""
import json
import tempfile
import unittest

import megatron_setups as setups


class RecordedOrder(unittest.TestCase):
    def test_samples_are_those_of_megatron_core(self):
        for recorded in json.loads(setups.RECORDED.read_text()):
            setup = setups.make_setup(recorded["setup"])
            with self.subTest(setup=setup["number"]), tempfile.TemporaryDirectory() as folder:
                config = setups.write_config(setup, setups.write_shards(setup, folder), folder)
                found = [setups.digest(setups.read_part(setup, config, part)) for part in range(3)]
                self.assertEqual(found, recorded["parts"])


if __name__ == "__main__":
    unittest.main()
