#!/usr/bin/env python3
"""Times training on packed documents, on padded ones and on a stream, in one run, in turn.

    bazel build //tools:train
    python3 tests/document_speed.py --tokenizer=DIRECTORY

Makes documents of random length, a geometric distribution of mean --seq_len / 8 tokens, and trains
--model on them with --documents=concat, mask and pad. Prints the median of the steps' rates of each
in tokens that are learnt a second, and the ratios that matter: mask over pad, and mask over concat.
DIRECTORY is that of any tokenizer with no more tokens than the model.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile

# Each is one token of the usual vocabularies, with the space before it.
_WORDS = (" a about after all and are as at be been but by can do first for from had have he her "
          "him his if in into is it its like man may me more my no not now of on one only or other "
          "our out over people said she so some than that the their them then there they this time "
          "to two up was way we were what when which who will with would you your").split()
_WARM_UP = 2


def write_documents(path, num_tokens, mean):
    # Not longer than a row: a longer one takes two, of which the second is mostly empty.
    generator = random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        while num_tokens > 0:
            # A token closes the document.
            length = min(2 + int(generator.expovariate(1 / (mean - 2))), 8 * mean)
            words = "".join(" " + generator.choice(_WORDS) for _ in range(length - 1))
            file.write(json.dumps({"text": words}) + "\n")
            num_tokens -= length


def learnt_per_second(arguments, documents, folder, mode, number):
    """The rate of each step after the first ones."""
    out = folder / f"{mode}-{number}"
    subprocess.run(
        [arguments.train, f"--model={arguments.model}", f"--tokenizer={arguments.tokenizer}",
         f"--train_data={documents}", f"--documents={mode}", f"--seq_len={arguments.seq_len}",
         f"--micro_batch={arguments.micro_batch}", f"--steps={arguments.steps + _WARM_UP}",
         f"--dtype={arguments.dtype}", f"--device={arguments.device}", f"--out={out}",
         f"--threads={arguments.threads}", "--eval_every=0", "--sample_every=0", "--save_every=0"],
        check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    step_tokens = arguments.micro_batch * arguments.seq_len
    return [record.get("targets", step_tokens) / record["seconds"]
            for record in records if "loss" in record][_WARM_UP:]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="bazel-bin/tools/train", help="//tools:train")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--model", default="gpt2-124m")
    parser.add_argument("--seq_len", type=int, default=1024)
    parser.add_argument("--micro_batch", type=int, default=1)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6, help="of each run, after two more")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates = {"concat": [], "mask": [], "pad": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        documents = folder / "documents.jsonl"
        write_documents(documents, 40 * arguments.micro_batch * arguments.seq_len,
                        arguments.seq_len // 8)
        for number in range(arguments.rounds):
            for mode, of_mode in rates.items():
                of_mode += learnt_per_second(arguments, documents, folder, mode, number)
    median = {mode: statistics.median(of_mode) for mode, of_mode in rates.items()}
    for mode, rate in median.items():
        print(f"{mode:6} {rate:10.1f} tokens learnt a second")
    for other in "pad", "concat":
        print(f"mask / {other:6} {median['mask'] / median[other]:.2f}")


if __name__ == "__main__":
    main()
