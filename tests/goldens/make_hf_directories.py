#!/usr/bin/env python3
"""Records what transformers makes of many kinds of directory, for //tests:hf_directories_test.

    pip install torch==2.15.0 transformers==5.23.0
    python3 tests/goldens/make_hf_directories.py

tests/goldens/hf_directories/kinds.json lists the kinds: edits of a tiny GPT-2 or Llama that lie
beside it. The script makes both models where they are missing, applies every kind's edits, loads
the directory with transformers and writes outcomes.json: the error, or the keys that were missing
or unexpected, and the logits after the last of TOKENS or the name of a kind with the same. The
test applies the same edits, and its head explains them.
"""

import json
import math
import os
import pathlib
import struct
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers.utils import logging

HERE = pathlib.Path(__file__).parent / "hf_directories"
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
                "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "I32": torch.int32,
                "U8": torch.uint8, "BOOL": torch.bool}
ACTIONS = ("add", "remove", "copy", "rename", "replace", "negate", "cast", "reshape")


def sixteenths(count):
    """Values that every floating-point dtype represents exactly, from -7/16 to 7/16."""
    return torch.tensor([((7 * i + i * i // 5) % 15 - 7) / 16 for i in range(count)])


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=24, n_positions=16, n_embd=8, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, bos_token_id=None, eos_token_id=None))


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=24, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
        bos_token_id=None, eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0}))


def make_base(family, model):
    folder = HERE / family
    if (folder / "model.safetensors").exists():
        return
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randint(-7, 8, p.shape) / 16)
            if p.dim() == 1 and name.endswith("weight"):
                p.add_(1)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def merge_patch(target, patch):
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merge_patch(target[key], value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value


def read_safetensors(path):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32"
        raw = bytearray(data[8 + length + begin:8 + length + end])
        tensors[name] = torch.frombuffer(raw, dtype=torch.float32).reshape(entry["shape"])
    return tensors, metadata


def write_safetensors(path, tensors, metadata):
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, tensor in sorted(tensors.items()):
        dtype = next(text for text, dtype in TORCH_DTYPES.items() if dtype == tensor.dtype)
        raw = bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())
        header[name] = {"dtype": dtype, "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def edit_tensors(tensors, edits):
    for edit in edits:
        (action, name), = [(key, edit[key]) for key in ACTIONS if key in edit]
        if action == "add":
            values = sixteenths(math.prod(edit["shape"])).reshape(edit["shape"])
            tensors[name] = values.to(TORCH_DTYPES[edit.get("dtype", "F32")])
        elif action == "remove":
            del tensors[name]
        elif action == "copy":
            tensors[edit["to"]] = tensors[name]
        elif action == "rename":
            tensors[edit["to"]] = tensors.pop(name)
        elif action == "replace":  # in all names that have the text
            for old in [old for old in tensors if name in old]:
                tensors[old.replace(name, edit["to"], 1)] = tensors.pop(old)
        elif action == "negate":
            tensors[name] = -tensors[name]
        elif action == "cast":  # all names that have the text
            for old in [old for old in tensors if name in old]:
                tensors[old] = tensors[old].to(TORCH_DTYPES[edit["dtype"]])
        elif action == "reshape":
            tensors[name] = tensors[name].reshape(edit["shape"])


def write_shards(folder, tensors, metadata, kind):
    weight_map, listed = {}, set()
    for shard in kind["shards"]:
        names = shard.get("names", sorted(set(tensors) - listed))
        listed.update(names)
        for name in names:
            weight_map.setdefault(name, shard["file"])
        own = {name: tensors[name] for name in names}
        own.update({name: -tensors[name] for name in shard.get("negated", [])})
        write_safetensors(folder / shard["file"], own, metadata)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    merge_patch(index, kind.get("index", {}))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def make_directory(folder, kind):
    base = HERE / kind["base"]
    config = json.loads((base / "config.json").read_text())
    merge_patch(config, kind.get("config", {}))
    for key in kind.get("null", []):
        config[key] = None
    (folder / "config.json").write_text(json.dumps(config))

    tensors, metadata = read_safetensors(base / "model.safetensors")
    metadata = kind.get("metadata", metadata)
    edit_tensors(tensors, kind.get("tensors", []))
    file = kind.get("file", "model.safetensors")
    if "shards" in kind:
        write_shards(folder, tensors, metadata, kind)
    elif file.endswith(".bin"):
        torch.save(tensors, folder / file)
    elif "link" in kind:
        write_safetensors(folder / kind["link"], tensors, metadata)
        (folder / file).symlink_to(kind["link"])
    else:
        write_safetensors(folder / file, tensors, metadata)
    if "beside" in kind:  # the same tensors with other values
        edit_tensors(tensors, [{"negate": name} for name in list(tensors)])
        write_safetensors(folder / kind["beside"], tensors, metadata)
    for name, text in kind.get("files", {}).items():
        (folder / name).write_text(text)


def outcome_of(kind):
    with tempfile.TemporaryDirectory() as directory:
        make_directory(pathlib.Path(directory), kind)
        try:
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                directory, dtype=torch.float32, output_loading_info=True)
            with torch.no_grad():
                logits = model.eval()(torch.tensor([TOKENS])).logits[0, -1]
        except Exception as error:
            text = str(error).replace(directory + "/", "").replace(directory, "DIRECTORY")
            return {"raises": f"{type(error).__name__}: {' '.join(text.split())[:100]}"}
    outcome = {}
    for key in ("missing_keys", "unexpected_keys"):
        if info[key]:
            outcome[key.removesuffix("_keys")] = sorted(info[key])
    if "missing" not in outcome:  # else the missing ones are random
        # Nine digits represent an f32 exactly.
        outcome["logits"] = [float(f"{x:.9g}") for x in logits]
    return outcome


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    make_base("gpt2", gpt2())
    make_base("llama", llama())
    kinds = json.loads((HERE / "kinds.json").read_text())
    outcomes, names = {}, {}
    for kind in kinds:
        assert kind["name"] not in outcomes, kind["name"]
        outcome = outcome_of(kind)
        if "logits" in outcome:
            key = (kind["base"], tuple(outcome["logits"]))
            if key in names:
                outcome["logits"] = names[key]
            else:
                names[key] = kind["name"]
        outcomes[kind["name"]] = outcome
    made_by = (f"make_hf_directories.py, torch {torch.__version__}, "
               f"transformers {transformers.__version__}")
    lines = [f"  {json.dumps(name)}: {json.dumps(outcome)}" for name, outcome in outcomes.items()]
    (HERE / "outcomes.json").write_text("\n".join([
        "{", f' "made_by": {json.dumps(made_by)},', f' "tokens": {TOKENS},', ' "outcomes": {',
        ",\n".join(lines), " }", "}", ""]))


if __name__ == "__main__":
    main()
