#!/usr/bin/env python3
"""The ordinary `safetensors` package of Python reads a checkpoint, with the same numbers as plain
Python. Skipped (exit status 77) if the package is not installed."""
import os
import sys
import tempfile

import command_support as support

SKIPPED = 77


def main():
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        print(f"no Python package to read with: {error}")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        prefix, run_dir = support.write_text(folder), os.path.join(folder, "run")
        done = support.run(support.train_command(prefix, run_dir), ranks=2)
        assert done.returncode == 0, done.stderr
        files = sorted(support.latest_checkpoint(run_dir).glob("*.safetensors"))
        assert len(files) == 4, files  # weights and moments of two ranks
        for path in files:
            loaded, expected = load_file(path), support.read_tensors(path)
            assert loaded.keys() == expected.keys(), path
            for name, (shape, values) in expected.items():
                assert list(loaded[name].shape) == shape, name
                assert loaded[name].ravel().tolist() == list(values), name
    return 0


if __name__ == "__main__":
    sys.exit(main())
