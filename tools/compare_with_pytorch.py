#!/usr/bin/env python3
"""Training speed of Strake beside PyTorch eager on the same model and batch, in one run.

    pip install torch
    bazel build //tools:benchmark
    python3 tools/compare_with_pytorch.py [--model=gpt2-124m] [--rounds=3]

Rounds alternate: each times PyTorch (GPT-2 with scaled_dot_product_attention, clipping and fused
AdamW) and then //tools:benchmark, in processes of their own, so that a machine that changes its speed
changes both. Compared are the medians over all rounds' medians. f32, random tokens.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP_STEPS = 2
# vocabulary, positions, layers, hidden size, heads
GPT2 = {
    "gpt2-124m": (50257, 1024, 12, 768, 12),
    "gpt2-355m": (50257, 1024, 24, 1024, 16),
    "gpt2-tiny": (256, 256, 4, 128, 4),
    "gpt2-mini": (256, 512, 6, 384, 6),
}


def pytorch_worker(args):
    """Prints one JSON object; runs in a process of its own."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    vocab, positions, layers, hidden, heads = GPT2[args.model]
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
            self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
            self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

        def forward(self, x):
            b, t, _ = x.shape
            q, k, v = (z.view(b, t, heads, -1).transpose(1, 2)
                       for z in self.qkv(self.norm1(x)).split(hidden, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, hidden))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocab, hidden), nn.Embedding(positions, hidden)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(hidden)
            self.head = nn.Linear(hidden, vocab, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x, targets):
            h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h)
            return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1), targets.flatten())

    model = Model()
    for p in model.parameters():
        if p.dim() >= 2:
            nn.init.normal_(p, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    seconds = []
    for _ in range(WARM_UP_STEPS + args.steps):
        x, y = torch.randint(vocab, (2, args.micro_batch, args.seq_len))
        start = time.perf_counter()
        model(x, y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[WARM_UP_STEPS:])
    print(json.dumps({
        "version": torch.__version__,
        "tokens_per_second": args.micro_batch * args.seq_len / median,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


def run(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(GPT2), default="gpt2-124m")
    parser.add_argument("--micro_batch", type=int, default=4)
    parser.add_argument("--seq_len", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--benchmark", default=str(ROOT / "bazel-bin/tools/benchmark"),
                        help="the built //tools:benchmark")
    parser.add_argument("--pytorch_worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pytorch_worker:
        return pytorch_worker(args)
    if not pathlib.Path(args.benchmark).exists():
        sys.exit(f"error: {args.benchmark} is missing; run: bazel build //tools:benchmark")
    shared = [f"--{name}={getattr(args, name)}"
              for name in ("model", "micro_batch", "seq_len", "steps", "threads")]
    pytorch, strake = [], []
    for _ in range(args.rounds):
        pytorch.append(run([sys.executable, __file__, "--pytorch_worker"] + shared))
        strake.append(run([args.benchmark, "--json"] + shared))
        print(f"PyTorch {pytorch[-1]['tokens_per_second']:9.1f} tokens/s   "
              f"Strake {strake[-1]['tokens_per_second']:9.1f} tokens/s", flush=True)

    def median(results, key):
        return statistics.median(r[key] for r in results)

    flops_per_token = median(strake, "gflops") * 1e9 / median(strake, "tokens_per_second")
    peak = median(strake, "fma_peak_gflops") * 1e9
    print(f"\n{args.model}, f32, batch {args.micro_batch} x {args.seq_len}, {args.threads} threads, "
          f"median of {args.rounds} rounds; FMA peak {peak / 1e9:.0f} GFLOP/s")
    for name, results in ((f"PyTorch {pytorch[0]['version']}", pytorch), ("Strake", strake)):
        speed = median(results, "tokens_per_second")
        print(f"  {name:24} {speed:9.1f} tokens/s  {100 * speed * flops_per_token / peak:5.1f} % of "
              f"peak  {median(results, 'peak_rss_bytes') / 2**30:.2f} GiB resident")
    ratio = median(strake, "tokens_per_second") / median(pytorch, "tokens_per_second")
    print(f"  Strake / PyTorch         {ratio:9.2f}")


if __name__ == "__main__":
    main()
