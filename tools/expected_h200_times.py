#!/usr/bin/env python3
"""Expected time of each kernel class of a training step on one H200, as Markdown tables.

    bazel build //tools:step_calls
    python3 tools/expected_h200_times.py bazel-bin/tools/step_calls

What a step launches comes from step_calls: the calls that a dry run records, in bf16 with one
micro-batch per step, with their FLOPs and bytes. A kernel takes the longer of its FLOPs at the rate
of its class and its bytes at the memory's. docs/performance.md has the result and reads it.
"""

import json
import os
import subprocess
import sys
import tempfile

MEMORY = 4.8e12  # bytes/s
MATMUL = 790e12  # FLOP/s of products of bf16 matrices
ATTENTION = {64: (340e12, 300e12), 128: (590e12, 470e12)}  # by head size: forward, backward
PEAK = 989e12  # nominal, dense bf16
GAP = 1.5e-6  # s; assumed, between two kernels of a CUDA graph that wait for each other

LLAMA_3_8B_16_LAYERS = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "hidden_act": "silu", "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    "rope_theta": 500000, "tie_word_embeddings": False,
}
# Name, preset or configuration, sequence length, micro-batch, target in tokens per second.
MODELS = (
    ("GPT-2 124M", "gpt2-124m", 1024, 64, 650e3),
    ("GPT-2 1558M", "gpt2-1558m", 1024, 32, 65.5e3),
    ("Llama-3-8B, 16 of 32 layers", LLAMA_3_8B_16_LAYERS, 8192, 2, 23.5e3),
)

# The class of an op, by its pass where the passes differ, and the kernels of a call.
CLASSES = {
    "causal_attention": (("attention, forward", 1), ("attention, backward", 3)),
    "layer_norm": (("norm, forward", 1), ("norm, backward", 3)),
    "rms_norm": (("norm, forward", 1), ("norm, backward", 2)),
    "bias_add": (("bias", 1), ("bias gradients", 2)),
    "rope": (("RoPE, both passes", 1), ("RoPE, both passes", 1)),
    "swiglu": (("SwiGLU, forward", 1), ("SwiGLU, backward", 1)),
    "gelu": (("GELU", 1), ("GELU", 1)),
    "softmax_cross_entropy": (("cross-entropy", 1), ("cross-entropy", 1)),
    "embedding": (("embeddings, both passes", 1), ("embeddings, both passes", 8)),
    "position_embedding": (("embeddings, both passes", 1), ("embeddings, both passes", 1)),
    "adamw": (("AdamW", 1), ("AdamW", 1)),
    "squared_norm": (("gradient norm", 2), ("gradient norm", 2)),
}
# Classes of ops that several layers call.
LAYERS = {"gradients": "gradients set to 0", "clipping": "gradient norm", "loss": "cross-entropy",
          "control": "gradient norm"}


def record(program, config, seq_len, micro_batch):
    """What step_calls prints of a step."""
    with tempfile.TemporaryDirectory() as directory:
        if isinstance(config, dict):
            path = os.path.join(directory, "config.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(config, file)
            config = path
        command = [os.path.abspath(program), f"--model={config}", f"--seq_len={seq_len}",
                   f"--micro_batch={micro_batch}", "--dtype=bf16", "--device=cuda"]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def class_of(call):
    """The name of a call's class, and its kernels."""
    op, layer = call["op"], call["layer"]
    if op == "matmul":
        return "products: " + layer, 1
    if op in CLASSES:
        return CLASSES[op][call["pass"] == "backward"]
    return LAYERS[layer], 1


def rate_of(call):
    """FLOP/s."""
    if call["op"] != "causal_attention":
        return MATMUL
    return ATTENTION[int(call["attributes"]["head_dim"])][call["pass"] == "backward"]


class Step:
    """The classes of one model's step, in the order of the step."""

    def __init__(self, step):
        self.step = step
        self.tokens = step["micro_batch"] * step["seq_len"]
        self.classes = {}  # name: [FLOPs, bytes, seconds]
        self.kernels = self.chunks = 0
        for call in step["calls"]:
            self.add(call)
        self.classes["gaps between kernels"] = [0, 0, GAP * self.kernels]

    def add(self, call):
        name, kernels = class_of(call)
        seconds = max(call["flops"] / rate_of(call), call["bytes"] / MEMORY)
        row = self.classes.setdefault(name, [0, 0, 0])
        for i, value in enumerate((call["flops"], call["bytes"], seconds)):
            row[i] += call["times"] * value
        self.kernels += call["times"] * kernels
        self.chunks += call["op"] == "softmax_cross_entropy"

    def seconds(self):
        return sum(row[2] for row in self.classes.values())

    def rate(self, seconds):
        tokens = self.tokens / seconds
        return (f"{1e3 * seconds:.1f} ms, {tokens:,.0f} tokens/s, MFU "
                f"{100 * tokens * self.step['flops_per_token'] / PEAK:.1f} %")

    def print_table(self, name, tokens_per_second):
        step, total = self.step, self.seconds()
        print(f"#### {name}\n")
        print(f"T = {step['seq_len']}, micro-batch {step['micro_batch']}: {self.tokens} tokens per "
              f"step; {step['parameters'] / 1e6:,.1f}M parameters; "
              f"{step['flops_per_token'] / 1e9:.3f} GFLOP per token; "
              f"{self.kernels} kernels, logits in {self.chunks} chunks.\n")
        print("| class | TFLOP | GB | ms | share |\n|---|---|---|---|---|")
        for name, (flops, num_bytes, seconds) in self.classes.items():
            cells = [f"{flops / 1e12:.2f}" if flops else "",
                     f"{num_bytes / 1e9:.1f}" if num_bytes else "", f"{1e3 * seconds:.2f}",
                     f"{100 * seconds / total:.1f} %"]
            print(f"| {name} | " + " | ".join(cells) + " |")
        flops, num_bytes = (sum(row[i] for row in self.classes.values()) for i in (0, 1))
        print(f"| **sum** | {flops / 1e12:.2f} | {num_bytes / 1e9:.1f} | {1e3 * total:.2f} | |\n")
        aim = self.tokens / tokens_per_second
        products = sum(row[2] for name, row in self.classes.items() if name.startswith("products"))
        needed = MATMUL * products / (products + aim - total)
        print(f"Expected: {self.rate(total)}.\\\nAim: {self.rate(aim)}; missed, "
              f"all else as expected, where products are below {needed / 1e12:.0f} TFLOP/s.")
        print()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, config, seq_len, micro_batch, tokens_per_second in MODELS:
        step = record(sys.argv[1], config, seq_len, micro_batch)
        Step(step).print_table(name, tokens_per_second)


if __name__ == "__main__":
    main()
