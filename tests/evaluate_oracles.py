#!/usr/bin/env python3
"""Shows that //tools:evaluate computes what transformers and lm-evaluation-harness do.

    pip install torch transformers lm_eval; apt-get install bible-kjv
    bazel build //tools:evaluate
    python3 tests/evaluate_oracles.py [--work=DIR] [--model=DIR] [--text_bytes=N]
                                      [--questions=N] [loss] [stride] [choices]

The model is SmolLM2-135M-Instruct, which tests/real_model.py makes a directory of, and the text the
King James Bible. Shown, all three without arguments:

    loss     over --text_bytes of English (1 MB), in blocks of 256 tokens: transformers' loss within
             1e-5, and as many tokens
    stride   over a sixteenth of it, in windows of 256 tokens every 64: the loss of transformers'
             guide to the perplexity of models of a fixed length, within 1e-5
    choices  --questions (60) made of the text, with contexts that are empty, end with blanks or
             exceed the model's positions (96 here), and choices that are equal: the harness' choice
             and normalised choice in every one, and its log-likelihoods within 1e-3
"""

import argparse
import json
import math
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import real_model

SEQ_LEN = 256
STRIDE = 64
POSITIONS = 96  # of the model that answers questions, so that some contexts are too long


def evaluate(program, **flags):
    command = [program] + [f"--{name}={value}" for name, value in flags.items()]
    return json.loads(subprocess.run(command + ["--json"], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout)


def bible():
    return subprocess.run(["bible", "-f", "gen1:1-rev22:21"], check=True,
                          stdout=subprocess.PIPE).stdout


def report(what, good, text):
    print(f"{what}: {'ok' if good else 'FAILED'}, {text}", flush=True)
    return good


# --- Loss. ---


def encode(folder, text):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]


def token_losses(model, ids):
    """Of ids[1:], from those before each."""
    import torch

    x = torch.tensor(ids)
    with torch.no_grad():
        logits = model(x[None, :-1]).logits[0]
    return torch.nn.functional.cross_entropy(logits, x[1:], reduction="none").double()


def blocks_loss(model, ids):
    nats = sum(token_losses(model, ids[i:i + SEQ_LEN + 1]).sum().item()
               for i in range(0, len(ids) - 1, SEQ_LEN))
    return nats, len(ids) - 1


def windows_loss(model, ids):
    """The guide's loop, with sums in place of means."""
    import torch

    nats, count, held = 0.0, 0, 0
    for begin in range(0, len(ids), STRIDE):
        end = min(begin + SEQ_LEN, len(ids))
        inputs = torch.tensor([ids[begin:end]])
        labels = inputs.clone()
        labels[:, :held - begin] = -100
        predicted = int((labels[:, 1:] != -100).sum())
        if predicted:
            with torch.no_grad():
                nats += model(inputs, labels=labels).loss.double().item() * predicted
        count, held = count + predicted, end
        if end == len(ids):
            return nats, count


def show_texts(args, what, text, theirs, **flags):
    path = args.work / f"{what}.txt"
    path.write_bytes(text)
    ours = evaluate(args.program, checkpoint=args.model, data=path, seq_len=SEQ_LEN, **flags)
    ids = encode(args.model, text.decode())
    nats, count = theirs(real_model.load(args.model), ids)
    loss, bits = nats / count, nats / math.log(2) / len(text)
    error = abs(ours["loss"] - loss)
    good = (error <= 1e-5 and ours["tokens"] == count and
            abs(ours["bits_per_byte"] - bits) <= 1e-5)
    return report(what, good, f"{ours['loss']:.7f} over {ours['tokens']} tokens, transformers "
                  f"{loss:.7f} over {count}, difference {error:.1e}, at most 1e-5; "
                  f"{ours['bits_per_byte']:.6f} bits per byte")


def show_loss(args):
    return show_texts(args, "loss", bible()[:args.text_bytes], blocks_loss)


def show_stride(args):
    return show_texts(args, "stride", bible()[:args.text_bytes // 16], windows_loss, stride=STRIDE)


# --- Multiple choice. ---


def questions(count):
    draw = random.Random(1)
    lines = bible().decode().split("\n")
    words = [line.split() for line in lines if len(line.split()) > 12]
    result = []
    for i in range(count):
        mine = draw.choice(words)
        cut = draw.randrange(3, len(mine) - 5)
        choices = [" ".join(mine[cut:cut + draw.randrange(1, 6)])]
        for _ in range(draw.randrange(1, 4)):
            other = draw.choice(words)
            begin = draw.randrange(len(other) - 5)
            choices.append(" ".join(other[begin:begin + draw.randrange(1, 6)]))
        context = " ".join(mine[:cut])
        if i % 10 == 1:
            context = ""
        elif i % 10 == 3:
            context += " \n"
        elif i % 10 == 5:  # too long for the model
            context = " ".join(" ".join(draw.choice(words)) for _ in range(6)) + " " + context
        elif i % 10 == 7:
            choices.append(choices[-1])
        elif i % 10 == 9:
            choices = [choice + " – Größe 😀 " for choice in choices]
        answer = draw.randrange(len(choices))
        choices[0], choices[answer] = choices[answer], choices[0]
        result.append({"context": context, "choices": choices, "answer": answer})
    return result


def with_positions(args):
    """The model with fewer positions: links to its files, and another config.json."""
    folder = args.work / "few-positions"
    folder.mkdir(exist_ok=True)
    for file in args.model.iterdir():
        link = folder / file.name
        link.unlink(missing_ok=True)
        if file.name != "config.json":
            link.symlink_to(file.resolve())
    config = json.loads((args.model / "config.json").read_text())
    config["max_position_embeddings"] = POSITIONS
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def harness(folder, path):
    """The harness' samples, in the order of the file."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    task = ConfigurableTask(config={
        "task": "questions", "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "context", "doc_to_choice": "choices",
        "doc_to_target": "answer", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]})
    model = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=8)
    results = lm_eval.evaluate(lm=model, task_dict={"questions": task}, bootstrap_iters=0)
    samples = sorted(results["samples"]["questions"], key=lambda sample: sample["doc_id"])
    return results["results"]["questions"], samples


def show_choices(args):
    path = args.work / "questions.jsonl"
    asked = questions(args.questions)
    path.write_text("".join(json.dumps(question) + "\n" for question in asked))
    folder = with_positions(args)
    ours = evaluate(args.program, checkpoint=folder, data=path, items="true")
    scores, samples = harness(folder, path)
    worst, wrong = 0.0, 0
    for question, item, sample in zip(asked, ours["tasks"][0]["items"], samples, strict=True):
        theirs = [float(response[0][0]) for response in sample["resps"]]
        worst = max([worst] + [abs(a - b) for a, b in
                               zip(item["log_likelihoods"], theirs, strict=True)])
        right = (float(item["chosen"] == question["answer"]),
                 float(item["chosen_norm"] == question["answer"]))
        wrong += right != (sample["acc"], sample["acc_norm"])
    same = all(abs(ours[name] - scores[f"{name},none"]) < 1e-12 for name in ("acc", "acc_norm"))
    good = wrong == 0 and same and worst <= 1e-3 and ours["tasks"][0]["truncated"] > 0
    return report("choices", good, f"{wrong} of {len(samples)} questions differ, log-likelihoods "
                  f"by {worst:.1e}, at most 1e-3; acc {ours['acc']:.4f}, harness "
                  f"{scores['acc,none']:.4f}; acc_norm {ours['acc_norm']:.4f}, harness "
                  f"{scores['acc_norm,none']:.4f}")


SHOWN = {"loss": show_loss, "stride": show_stride, "choices": show_choices}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/strake_real_model"),
                        help="folder for the model, made once, and for files")
    parser.add_argument("--model", type=pathlib.Path, help="its directory, if there is one already")
    parser.add_argument("--program", default=real_model.ROOT / "bazel-bin/tools/evaluate")
    parser.add_argument("--text_bytes", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("shown", nargs="*", metavar="|".join(SHOWN))
    args = parser.parse_args()
    unknown = set(args.shown) - set(SHOWN)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    args.work.mkdir(parents=True, exist_ok=True)
    args.model = args.model or real_model.fetch(args.work)
    results = [SHOWN[name](args) for name in args.shown or SHOWN]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
