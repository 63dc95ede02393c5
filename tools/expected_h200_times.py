#!/usr/bin/env python3
"""Expected time of each kernel class of a training step on one H200, as Markdown tables.

    python3 tools/expected_h200_times.py

A kernel takes the longer of its FLOPs at the rate of its class and its bytes at the memory's. What
is counted is what a step launches (models/*.cc, core/ops/*.cc), in bf16, with one micro-batch per
step and cuDNN's attention; tensors that stay in the L2 cache (weights of norms, RoPE's table,
partial sums) are not counted. docs/performance.md has the result and reads it.
"""

import collections
import math

MEMORY = 4.8e12  # bytes/s
MATMUL = 790e12  # FLOP/s of products of bf16 matrices
ATTENTION = {64: (340e12, 300e12), 128: (590e12, 470e12)}  # by head size: forward, backward
PEAK = 989e12  # nominal, dense bf16
GAP = 1.5e-6  # s; assumed, between two kernels of a CUDA graph that wait for each other
LOGITS_BYTES, LOGITS_ROWS = 512 << 20, 4096  # of a chunk, at most and at least: models/head_loss.h
BF16, F32 = 2, 4

Model = collections.namedtuple(
    "Model", "name vocab layers hidden heads kv_heads head_dim intermediate gpt2 tied "
    "seq_len micro_batch aim")
MODELS = (
    Model("GPT-2 124M", 50257, 12, 768, 12, 12, 64, 3072, True, True, 1024, 64, 650e3),
    Model("GPT-2 1558M", 50257, 48, 1600, 25, 25, 64, 6400, True, True, 1024, 32, 65.5e3),
    Model("Llama-3-8B, 16 of 32 layers", 128256, 16, 4096, 32, 8, 128, 14336, False, False, 8192, 2,
          23.5e3),
)


class Step:
    """The classes of one model's step, in the order of the step."""

    def __init__(self, model):
        self.model = model
        self.tokens = model.micro_batch * model.seq_len
        self.classes = {}  # name: [FLOPs, bytes, seconds]
        self.kernels = 0
        self.add_layers()
        self.add_vocabulary()
        self.add_parameters()
        self.add("gaps between kernels", seconds=GAP * self.kernels)

    def add(self, name, flops=0, num_bytes=0, rate=MATMUL, kernels=0, count=1, seconds=None):
        if seconds is None:
            seconds = max(flops / rate, num_bytes / MEMORY)
        row = self.classes.setdefault(name, [0, 0, 0])
        for i, value in enumerate((flops, num_bytes, seconds)):
            row[i] += count * value
        self.kernels += count * kernels

    def add_products(self, name, columns_in, columns_out, count, gelu=0, chunks=1):
        """y, dx and the accumulated f32 dW; `gelu` columns of GELU's input beside the first two."""
        tokens, weight = self.tokens / chunks, columns_in * columns_out
        flops = 2 * tokens * weight
        both = BF16 * tokens * (columns_in + columns_out)
        forward, backward = (gelu, 0) if columns_out == gelu else (0, gelu)
        for num_bytes in (both + BF16 * (weight + tokens * forward),
                          both + BF16 * (weight + tokens * backward)):
            self.add(name, flops, num_bytes, count=count * chunks, kernels=1)
        # The first chunk's weight gradient is written, the others are added to it.
        self.add(name, flops, both + F32 * weight, count=count, kernels=1)
        self.add(name, flops, both + 2 * F32 * weight, count=count * (chunks - 1), kernels=1)

    def add_passes(self, name, columns, count=1, kernels=1):
        """A pass over `columns` bf16 of each token, read or written."""
        self.add(name, num_bytes=BF16 * self.tokens * columns, count=count, kernels=kernels)

    def add_layers(self):
        m = self.model
        C, F, L = m.hidden, m.intermediate, m.layers
        query, key = m.heads * m.head_dim, m.kv_heads * m.head_dim
        qkv, up = query + 2 * key, F if m.gpt2 else 2 * F
        self.add_products("products: qkv", C, qkv, L)
        self.add_products("products: attention output", query, C, L)
        self.add_products("products: MLP up", C, up, L, gelu=F if m.gpt2 else 0)
        self.add_products("products: MLP down", F, C, L, gelu=F if m.gpt2 else 0)
        # Two products over T/2 keys; five in the backward pass.
        forward = 2 * self.tokens * m.seq_len * query
        io = BF16 * self.tokens * (qkv + query)
        rates = ATTENTION[m.head_dim]
        self.add("attention, forward", forward, io, rates[0], kernels=1, count=L)
        self.add("attention, backward", 2.5 * forward, 2 * io, rates[1], kernels=3, count=L)
        # x and the residual are read, their sum and y written; the first has no residual.
        self.add_passes("norm, forward", 4 * C, count=2 * L)
        self.add_passes("norm, forward", 2 * C)
        # dy, x and dx are read, dx written; the last norm's dx is not read.
        sums = 3 if m.gpt2 else 2
        self.add_passes("norm, backward", 4 * C, count=2 * L, kernels=sums)
        self.add_passes("norm, backward", 3 * C, kernels=sums)
        if m.gpt2:
            for columns in (qkv, C, up, C):
                self.add_passes("bias gradients", columns, count=L, kernels=2)
        else:
            self.add_passes("RoPE, both passes", 2 * (query + key), count=2 * L)
            self.add_passes("SwiGLU, forward", 3 * F, count=L)
            self.add_passes("SwiGLU, backward", 5 * F, count=L)

    def add_vocabulary(self):
        m, C = self.model, self.model.hidden
        logits = self.logits()
        # A chunk's loss reads its logits once more, from L2, and writes their gradient over them.
        self.add_products("products: head", C, logits, 1, chunks=self.chunks())
        self.add_passes("cross-entropy", 2 * logits, kernels=self.chunks() + 1)
        embedding = "embeddings, both passes"
        self.add_passes(embedding, 2 * C)
        # A sort of two digits, and the rows of random tokens' f32 gradients read and written.
        rows = m.vocab * -math.expm1(-self.tokens / m.vocab)
        self.add(embedding, num_bytes=BF16 * self.tokens * C + 2 * F32 * rows * C, kernels=8)
        if m.gpt2:
            self.add_passes(embedding, 2 * C)
            self.add_passes(embedding, C)

    def add_parameters(self):
        m = self.model
        P = self.parameters()
        # In runs between the matrices whose gradients are products.
        runs = 4 * m.layers + 1 if m.gpt2 else 2 * m.layers + 1
        self.add("gradients set to 0", num_bytes=F32 * (P - self.product_weights()), kernels=runs)
        self.add("gradient norm", num_bytes=F32 * P, kernels=5)
        # Read: gradient, master, two moments; written: the last three and the bf16 weight.
        runs = 8 * m.layers + 2 if m.gpt2 else 4 * m.layers + 3
        self.add("AdamW", num_bytes=(7 * F32 + BF16) * P, kernels=runs)

    def logits(self):
        return -(-self.model.vocab // 128) * 128  # of a token: VocabMultiple() of parallel/tensor/shard.h

    def chunks(self):
        rows = max(LOGITS_BYTES // (BF16 * self.logits()) // 128 * 128, LOGITS_ROWS)
        return -(-self.tokens // rows)

    def product_weights(self):
        m, C = self.model, self.model.hidden
        query, key = m.heads * m.head_dim, m.kv_heads * m.head_dim
        up = m.intermediate * (1 if m.gpt2 else 2)
        return m.vocab * C + m.layers * C * (2 * query + 2 * key + up + m.intermediate)

    def parameters(self):
        m, C = self.model, self.model.hidden
        query, key = m.heads * m.head_dim, m.kv_heads * m.head_dim
        norms = (2 * m.layers + 1) * C * (2 if m.gpt2 else 1)
        biases = m.layers * (query + 2 * key + 2 * C + m.intermediate) if m.gpt2 else 0
        looked_up = m.seq_len * C if m.gpt2 else 0
        looked_up += 0 if m.tied else m.vocab * C
        return self.product_weights() + norms + biases + looked_up

    def model_flops_per_token(self):
        m = self.model
        looked_up = m.seq_len * m.hidden if m.gpt2 else 0
        looked_up += 0 if m.tied else m.vocab * m.hidden
        return (6 * (self.parameters() - looked_up) +
                6 * m.layers * m.heads * m.head_dim * m.seq_len)

    def seconds(self):
        return sum(row[2] for row in self.classes.values())

    def rate(self, seconds):
        tokens = self.tokens / seconds
        return (f"{1e3 * seconds:.1f} ms, {tokens:,.0f} tokens/s, MFU "
                f"{100 * tokens * self.model_flops_per_token() / PEAK:.1f} %")

    def print_table(self):
        m, total = self.model, self.seconds()
        print(f"#### {m.name}\n")
        print(f"T = {m.seq_len}, micro-batch {m.micro_batch}: {self.tokens} tokens per step; "
              f"{self.parameters() / 1e6:,.1f}M parameters; "
              f"{self.model_flops_per_token() / 1e9:.3f} GFLOP per token; "
              f"{self.kernels} kernels, logits in {self.chunks()} chunks.\n")
        print("| class | TFLOP | GB | ms | share |\n|---|---|---|---|---|")
        for name, (flops, num_bytes, seconds) in self.classes.items():
            cells = [f"{flops / 1e12:.2f}" if flops else "",
                     f"{num_bytes / 1e9:.1f}" if num_bytes else "", f"{1e3 * seconds:.2f}",
                     f"{100 * seconds / total:.1f} %"]
            print(f"| {name} | " + " | ".join(cells) + " |")
        flops, num_bytes = (sum(row[i] for row in self.classes.values()) for i in (0, 1))
        print(f"| **sum** | {flops / 1e12:.2f} | {num_bytes / 1e9:.1f} | {1e3 * total:.2f} | |\n")
        aim = self.tokens / m.aim
        products = sum(row[2] for name, row in self.classes.items() if name.startswith("products"))
        needed = MATMUL * products / (products + aim - total)
        print(f"Expected: {self.rate(total)}.\\\nAim: {self.rate(aim)}; missed, "
              f"all else as expected, where products are below {needed / 1e12:.0f} TFLOP/s.")
        print()


def main():
    for model in MODELS:
        Step(model).print_table()


if __name__ == "__main__":
    main()
