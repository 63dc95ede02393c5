#!/usr/bin/env python3
"""Training speed of Strake beside PyTorch on the same model and batch, in one run.

    pip install torch
    bazel build //tools:benchmark
    python3 tools/compare_with_pytorch.py [--model=gpt2-124m] [--rounds=3]

On a machine with a GPU, its driver and PyTorch, with the bundle of docs/gpu_runs.md:

    python3 tools/compare_with_pytorch.py --device=cuda --benchmark=gpu_bundle/bin/benchmark \\
        --model=gpt2-124m --micro_batch=64 --seq_len=1024

Rounds alternate: each times PyTorch and then //tools:benchmark, in processes of their own, so that
a machine that changes its speed changes all. A round's figure is its median step; compared are the
best rounds. Random tokens; the step clips gradients and ends with AdamW.

PyTorch has GPT-2 and Llama in its own modules with scaled_dot_product_attention and fused AdamW. It
runs eager and compiled, on a GPU compiled alone. bf16 is autocast over f32 weights: as in Strake,
master weights, gradients and both moments are f32.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP_STEPS = 2
COMPILE_STEPS = 3  # before them


def gpt2(vocab, positions, layers, hidden, heads):
    return {"model_type": "gpt2", "vocab_size": vocab, "n_positions": positions,
            "n_layer": layers, "n_embd": hidden, "n_head": heads}


def llama(vocab, positions, layers, hidden, heads, kv_heads, intermediate, tied, theta=10000.0):
    return {"model_type": "llama", "vocab_size": vocab, "max_position_embeddings": positions,
            "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "intermediate_size": intermediate,
            "tie_word_embeddings": tied, "rope_theta": theta}


# Presets that the benchmark knows, as Hugging Face configurations.
PRESETS = {
    "gpt2-tiny": gpt2(256, 256, 4, 128, 4),
    "gpt2-mini": gpt2(256, 512, 6, 384, 6),
    "gpt2-124m": gpt2(50257, 1024, 12, 768, 12),
    "gpt2-355m": gpt2(50257, 1024, 24, 1024, 16),
    "gpt2-774m": gpt2(50257, 1024, 36, 1280, 20),
    "gpt2-1558m": gpt2(50257, 1024, 48, 1600, 25),
    "llama-tiny": llama(256, 256, 4, 128, 4, 2, 384, True),
    "llama-mini": llama(256, 512, 6, 384, 6, 2, 1024, True),
    "llama-100m": llama(32000, 2048, 12, 768, 12, 4, 2048, True),
    "llama-3-8b": llama(128256, 8192, 32, 4096, 32, 8, 14336, False, 500000.0),
}


def hf_config(model, layers):
    """The configuration of a preset or a file, cut to `layers` unless that is 0."""
    config = PRESETS.get(model) or json.loads(pathlib.Path(model).read_text())
    key = {"gpt2": "n_layer", "llama": "num_hidden_layers"}[config["model_type"]]
    return {**config, key: layers or config[key]}


def make_gpt2(c):
    import torch
    from torch import nn
    from torch.nn import functional as F

    hidden, heads = c["n_embd"], c["n_head"]

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
            self.tokens = nn.Embedding(c["vocab_size"], hidden)
            self.positions = nn.Embedding(c["n_positions"], hidden)
            self.blocks = nn.ModuleList(Block() for _ in range(c["n_layer"]))
            self.norm = nn.LayerNorm(hidden)
            self.head = nn.Linear(hidden, c["vocab_size"], bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x, targets):
            h = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
            for block in self.blocks:
                h = block(h)
            return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1), targets.flatten())

    return Model()


def make_llama(c):
    import torch
    from torch import nn
    from torch.nn import functional as F

    hidden, width, heads = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]
    kv_heads = c.get("num_key_value_heads", heads)
    head_dim = c.get("head_dim", hidden // heads)
    sizes = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim]

    def rotate(x, cos, sin):
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(hidden, eps=1e-6), nn.RMSNorm(hidden, eps=1e-6)
            self.qkv = nn.Linear(hidden, sum(sizes), bias=False)
            self.out = nn.Linear(sizes[0], hidden, bias=False)
            self.gate_up = nn.Linear(hidden, 2 * width, bias=False)
            self.down = nn.Linear(width, hidden, bias=False)

        def forward(self, x, cos, sin):
            b, t, _ = x.shape
            q, k, v = (z.view(b, t, -1, head_dim).transpose(1, 2)
                       for z in self.qkv(self.norm1(x)).split(sizes, dim=2))
            q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                               enable_gqa=kv_heads != heads)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, sizes[0]))
            gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=2)
            return x + self.down(F.silu(gate) * up)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(c["vocab_size"], hidden)
            self.blocks = nn.ModuleList(Block() for _ in range(c["num_hidden_layers"]))
            self.norm = nn.RMSNorm(hidden, eps=1e-6)
            self.head = nn.Linear(hidden, c["vocab_size"], bias=False)
            if c.get("tie_word_embeddings", False):
                self.head.weight = self.tokens.weight
            # Scaled frequencies, as in Llama 3.1, would take the same time.
            exponents = torch.arange(0, head_dim, 2) / head_dim
            angles = torch.outer(torch.arange(c["max_position_embeddings"]),
                                 c.get("rope_theta", 10000.0) ** -exponents).repeat(1, 2)
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())

        def forward(self, x, targets):
            h, t = self.tokens(x), x.shape[1]
            for block in self.blocks:
                h = block(h, self.cos[:t], self.sin[:t])
            return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1), targets.flatten())

    return Model()


def time_pytorch(args):
    """One round, as the JSON object that pytorch_worker() prints."""
    import torch

    on_gpu = args.device == "cuda"
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    config = hf_config(args.model, args.layers)
    with torch.device(args.device):
        model = {"gpt2": make_gpt2, "llama": make_llama}[config["model_type"]](config)
    for p in model.parameters():
        if p.dim() >= 2:
            torch.nn.init.normal_(p, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    loss_of = torch.compile(model) if args.compile else model

    def step(x, y):
        with torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = loss_of(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    warm_up = WARM_UP_STEPS + (COMPILE_STEPS if args.compile else 0)
    seconds = []
    for _ in range(warm_up + args.steps):
        x, y = torch.randint(config["vocab_size"], (2, args.micro_batch, args.seq_len),
                             device=args.device)
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        step(x, y)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "version": torch.__version__,
        "device": torch.cuda.get_device_name() if on_gpu else f"{args.threads} threads",
        "tokens_per_second": args.micro_batch * args.seq_len / statistics.median(seconds[warm_up:]),
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else resident,
    }


def pytorch_worker(args):
    """Prints one JSON object; runs in a process of its own."""
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU that it can use")
    try:
        print(json.dumps(time_pytorch(args)))
    except torch.OutOfMemoryError as error:
        sys.exit(f"error: PyTorch has too little memory on the GPU for --micro_batch="
                 f"{args.micro_batch}: {error}")


def library_path(benchmark):
    """The libraries beside a bundle's benchmark, and CUDA's that PyTorch brings."""
    folders = [pathlib.Path(benchmark).resolve().parent.parent / "lib"]
    for site in sys.path:
        folders += sorted(pathlib.Path(site).glob("nvidia/*/lib"))
    paths = [str(folder) for folder in folders if folder.is_dir()]
    return ":".join(paths + list(filter(None, [os.environ.get("LD_LIBRARY_PATH")])))


def run(command, env=None):
    result = subprocess.run(command, stdout=subprocess.PIPE, env=env)
    if result.returncode != 0:  # it has said why
        sys.exit(result.returncode)
    return json.loads(result.stdout)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2-124m",
                        help=f"{', '.join(sorted(PRESETS))}, or path of a Hugging Face config.json")
    parser.add_argument("--layers", type=int, default=0, help="cut the model to as many; 0: all")
    parser.add_argument("--micro_batch", type=int, default=4)
    parser.add_argument("--seq_len", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="steps to time in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), help="default: fp32, bf16 on a GPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction,
                        help="PyTorch compiled, or eager, alone; default: both, compiled on a GPU")
    parser.add_argument("--activation_recompute", choices=("none", "selective", "full"),
                        default="none", help="Strake's; compiled PyTorch recomputes cheap ops")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU")
    parser.add_argument("--benchmark", default=str(ROOT / "bazel-bin/tools/benchmark"),
                        help="the built //tools:benchmark, or that of a GPU bundle")
    parser.add_argument("--pytorch_worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model not in PRESETS and not pathlib.Path(args.model).is_file():
        parser.error(f"--model={args.model} is neither a preset nor a file")
    args.dtype = args.dtype or ("bf16" if args.device == "cuda" else "fp32")
    return args


def pytorch_modes(args):
    """The flag of a worker for each way in which PyTorch runs, and what it is called."""
    eager, compiled = ("--no-compile", "eager"), ("--compile", "compiled")
    if args.compile is None:
        return [compiled] if args.device == "cuda" else [eager, compiled]
    return [compiled if args.compile else eager]


def run_rounds(args, model):
    """All rounds' results, under "eager", "compiled" and "Strake", in that order.

    `model`: a preset, or a config.json's path.
    """
    shared = [f"--{name}={getattr(args, name)}"
              for name in ("micro_batch", "seq_len", "steps", "device", "dtype", "threads")]
    benchmark_env = {**os.environ, "LD_LIBRARY_PATH": library_path(args.benchmark)}
    commands = {
        name: ([sys.executable, __file__, "--pytorch_worker", flag, f"--model={model}"], None)
        for flag, name in pytorch_modes(args)}
    recompute = f"--activation_recompute={args.activation_recompute}"
    commands["Strake"] = [args.benchmark, "--json", f"--model={model}", recompute], benchmark_env
    results = {name: [] for name in commands}
    for _ in range(args.rounds):
        for name, (command, env) in commands.items():
            results[name].append(run(command + shared, env))
        print("tokens/s: " + "   ".join(f"{name} {rounds[-1]['tokens_per_second']:.1f}"
                                        for name, rounds in results.items()), flush=True)
    return results


def print_table(args, results):
    def best(results, key="tokens_per_second"):
        return max(result[key] for result in results)

    strake = results.pop("Strake")
    pytorch = next(iter(results.values()))[0]
    if args.device == "cuda":
        peak_name, peak_key = "matrix products reach", "product_gflops"
        memory_name, memory_key = "GiB of tensors", "planned_bytes"
    else:
        peak_name, peak_key = (("bf16 peak", "bf16_peak_gflops") if args.dtype == "bf16" else
                               ("FMA peak", "fma_peak_gflops"))
        memory_name, memory_key = "GiB resident", "peak_rss_bytes"
    gflops_per_token = strake[0]["gflops"] / strake[0]["tokens_per_second"]
    peak = best(strake, peak_key)
    layers = f" cut to {args.layers} layers" if args.layers else ""
    print(f"\n{args.model}{layers}, {args.dtype}, batch {args.micro_batch} x {args.seq_len}, "
          f"{pytorch['device']}, best of {args.rounds} rounds; {peak_name} {peak:.0f} GFLOP/s")
    rows = [(f"PyTorch {pytorch['version']}, {name}", rounds, "peak_bytes")
            for name, rounds in results.items()] + [("Strake", strake, memory_key)]
    for name, rounds, key in rows:
        speed = best(rounds)
        print(f"  {name:32} {speed:10.1f} tokens/s {100 * speed * gflops_per_token / peak:5.1f} % "
              f"of that {best(rounds, key) / 2**30:7.2f} {memory_name}")
    for name, rounds in results.items():
        print(f"  {f'Strake / PyTorch, {name}':32} {best(strake) / best(rounds):10.2f}")


def main():
    args = parse_args()
    if args.pytorch_worker:
        return pytorch_worker(args)
    if not pathlib.Path(args.benchmark).exists():
        sys.exit(f"error: {args.benchmark} is missing; run: bazel build //tools:benchmark")
    model = args.model
    with tempfile.TemporaryDirectory() as scratch:
        if args.layers:
            model = f"{scratch}/config.json"
            pathlib.Path(model).write_text(json.dumps(hf_config(args.model, args.layers)))
        print_table(args, run_rounds(args, model))


if __name__ == "__main__":
    main()
