#!/usr/bin/env python3
"""Checks that transformers loads Strake's checkpoints as they are and computes the same logits.

    pip install torch transformers
    bazel build //tests:print_logits //tools:train
    python3 tests/check_export.py [runs/llama-tiny/step-1000 ...]

Without checkpoints it makes one of every family, by three steps of training that begin with the
goldens of //tests:families_parity_test.

For each checkpoint: transformers must load it with no missing or unexpected weights, and the largest
difference of its logits to Strake's, over the largest logit, must be at most 1e-4.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests/goldens"
NUM_TOKENS = 16  # more than the goldens' windows


def check(checkpoint, name):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, output_loading_info=True, dtype=torch.float32, attn_implementation="eager")
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        sys.exit(f"error: {name}: {info}")
    tokens = [(17 * i + 3) % model.config.vocab_size for i in range(NUM_TOKENS)]
    with torch.no_grad():
        expected = model.eval()(torch.tensor([tokens])).logits[0].flatten()
    printed = subprocess.run([ROOT / "bazel-bin/tests/print_logits", checkpoint,
                              *map(str, tokens)], check=True, stdout=subprocess.PIPE)
    logits = torch.tensor(json.loads(printed.stdout))
    error = ((logits - expected).abs().max() / expected.abs().max()).item()
    print(f"{name}: {type(model).__name__}, {len(tokens)} x {model.config.vocab_size} logits, "
          f"largest error {error:.2e}")
    return error <= 1e-4


def train(golden, out):
    subprocess.run([ROOT / "bazel-bin/tools/train", f"--init_from={golden}", f"--out={out}",
                    f"--train_data={GOLDENS / 'tokens.bin'}", "--steps=3", "--seq_len=16",
                    "--micro_batch=2", "--global_batch=2", "--lr=0.01", "--eval_every=0",
                    "--sample_every=0", "--threads=1"], check=True, capture_output=True)
    return out / "step-3"


def check_families():
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for golden in sorted((GOLDENS / "families").iterdir()):
            out = pathlib.Path(directory) / golden.name
            results.append(check(train(golden, out), golden.name))
    return all(results)


if __name__ == "__main__":
    good = all([check(p, p) for p in sys.argv[1:]]) if sys.argv[1:] else check_families()
    sys.exit(0 if good else 1)
