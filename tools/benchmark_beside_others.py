#!/usr/bin/env python3
"""Training speed beside busy processes, as a ratio to the speed alone, in one run.

    bazel build //tools:benchmark
    python3 tools/benchmark_beside_others.py --model=llama-tiny --micro_batch=8 --seq_len=256

Other flags are those of //tools:benchmark. Each round times it alone and then beside each number of
processes that do nothing but compute, so that a machine that changes its speed changes all. Prints
the median ratio over the rounds, and its share of what a scheduler gives that treats all runnable
threads alike: with T threads beside N processes on T cores, T / (T + N).
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def busy_processes(count):
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
                 for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def tokens_per_second(command, neighbours):
    with busy_processes(neighbours):
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)["tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default=str(ROOT / "bazel-bin/tools/benchmark"))
    parser.add_argument("--neighbours", default="1,4", help="numbers of busy processes")
    parser.add_argument("--rounds", type=int, default=3)
    args, flags = parser.parse_known_args()
    command = [args.benchmark, "--json", *flags]
    counts = [int(count) for count in args.neighbours.split(",")]
    cores = len(os.sched_getaffinity(0))

    ratios = {count: [] for count in counts}
    for _ in range(args.rounds):
        alone = tokens_per_second(command, 0)
        print(f"alone: {alone:,.0f} tokens/s", flush=True)
        for count in counts:
            ratios[count].append(tokens_per_second(command, count) / alone)
            print(f"beside {count}: {ratios[count][-1]:.2f} of it", flush=True)
    print(f"\nmedian of {args.rounds} rounds, on {cores} cores")
    for count in counts:
        ratio, fair = statistics.median(ratios[count]), cores / (cores + count)
        print(f"beside {count}: {ratio:.2f} of alone, {ratio / fair:.2f} of the fair share {fair:.2f}")


if __name__ == "__main__":
    main()
