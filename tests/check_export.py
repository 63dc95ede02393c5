#!/usr/bin/env python3
"""Checks that transformers loads Strake's checkpoints as they are and computes the same logits.

    pip install torch transformers
    bazel build //tests:print_logits
    python3 tests/check_export.py runs/llama-tiny/step-1000 ...

For each checkpoint: transformers must load it with no missing or unexpected weights, and the largest
difference of its logits to Strake's, over the largest logit, must be at most 1e-4.
"""

import json
import pathlib
import subprocess
import sys

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent


def check(checkpoint):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        sys.exit(f"error: {checkpoint}: {info}")
    tokens = [(17 * i + 3) % model.config.vocab_size for i in range(24)]
    with torch.no_grad():
        expected = model.eval()(torch.tensor([tokens])).logits[0].flatten()
    printed = subprocess.run([ROOT / "bazel-bin/tests/print_logits", checkpoint,
                              *map(str, tokens)], check=True, stdout=subprocess.PIPE)
    logits = torch.tensor(json.loads(printed.stdout))
    error = ((logits - expected).abs().max() / expected.abs().max()).item()
    print(f"{checkpoint}: {type(model).__name__}, {len(tokens)} x {model.config.vocab_size} logits, "
          f"largest error {error:.2e}")
    return error <= 1e-4


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(0 if all([check(path) for path in sys.argv[1:]]) else 1)
