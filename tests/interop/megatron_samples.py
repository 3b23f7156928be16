#!/usr/bin/env python3
"""Prints the samples that megatron-core draws: a set-up per line of standard input (JSON, with the
prefixes of its shards), a result per line of standard output: {"version": of the library, "parts":
for training, validation and test the list of samples, or null for a part that the library does not
build}, or {"refused": why} if it refuses the set-up.

Runs in an environment with megatron-core, and imports nothing else of this folder."""
import json
import sys
import warnings

warnings.filterwarnings("ignore")

from megatron.core import __version__ as version
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig


class Ids:
    """A tokenizer as far as the data set asks for one."""
    vocab_size, eod, pad = 1 << 24, -2, -1
    unique_identifiers = {"class": "Ids"}


def samples_of(dataset, wanted):
    if dataset is None:
        return None
    samples = []
    for i in range(wanted):
        sample = dataset[i]
        samples.append(sample["tokens"].tolist() + [int(sample["labels"][-1])])
    return samples


def draw(setup):
    config = GPTDatasetConfig(
        random_seed=setup["seed"], sequence_length=setup["sequence"], split=setup["split"],
        blend=(setup["prefixes"], setup["weights"]), tokenizer=Ids(), reset_position_ids=False,
        reset_attention_mask=False, eod_mask_loss=False, create_attention_mask=False)
    builder = BlendedMegatronDatasetBuilder(GPTDataset, setup["wanted"], lambda: True, config)
    return [samples_of(*part) for part in zip(builder.build(), setup["wanted"])]


def main():
    for line in sys.stdin:
        try:
            result = {"version": version, "parts": draw(json.loads(line))}
        except (AssertionError, IndexError) as error:
            result = {"version": version, "refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
