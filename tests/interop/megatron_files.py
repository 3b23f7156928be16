#!/usr/bin/env python3
"""Writes pairs of files with megatron-core's IndexedDatasetBuilder: a question per line of standard
input, {"prefix", "dtype": a name of numpy, "documents": lists of lists of ids (a document is a list
of sequences), "modes": of the sequences or null, "end": false to leave the last document without an
end}. The answer is {"read": the sequences that the library reads back}, or {"refused": why} if it
does not read what it wrote.

Runs in an environment with megatron-core, and imports nothing else of this folder."""
import json
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy
import torch
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder


def write(question):
    modes = list(question["modes"] or [])
    builder = IndexedDatasetBuilder(question["prefix"] + ".bin", multimodal=bool(modes),
                                    dtype=getattr(numpy, question["dtype"]))
    documents = question["documents"]
    for i, document in enumerate(documents):
        for sequence in document:
            builder.add_item(torch.tensor(sequence), mode=modes.pop(0) if modes else 0)
        if question["end"] or i + 1 < len(documents):
            builder.end_document()
    builder.finalize(question["prefix"] + ".idx")


def main():
    for line in sys.stdin:
        question = json.loads(line)
        write(question)
        try:
            dataset = IndexedDataset(question["prefix"])
            answer = {"read": [dataset[i].tolist() for i in range(len(dataset))]}
        except AssertionError:
            answer = {"refused": "an assertion"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
