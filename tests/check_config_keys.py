#!/usr/bin/env python3
"""Checks that Strake knows every key of config.json that transformers reads.

    pip install torch transformers
    bazel build //tests:config_keys
    python3 tests/check_config_keys.py [--list]

For each family it collects the attributes of the configuration that transformers' modeling_*.py
reads, those that its configuration_*.py reads and takes from other keys, and the keys of RoPE's
parameters. Each must be read by Strake, be checked (one value is supported, others are refused) or be
listed as irrelevant, with a reason. --list prints them all.
"""

import ast
import pathlib
import subprocess
import sys

import transformers
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RotaryEmbeddingConfigMixin

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = pathlib.Path(transformers.__file__).parent
# model_type: the folder of its sources, where that is another.
FAMILIES = {"gemma2": "", "gemma3_text": "gemma3", "gpt2": "", "gpt_bigcode": "", "gpt_neox": "",
            "granite": "", "llama": "", "mistral": "", "olmo2": "", "olmo3": "", "phi3": "",
            "qwen2": "", "qwen3": "", "smollm3": "", "stablelm": ""}
# Classes of models that are not decoders with a head: others share their files.
OTHER_CLASSES = ("Classification", "QuestionAnswering", "DoubleHeads", "SequenceSummary", "Image",
                 "MultiModal", "ConditionalGeneration", "Gemma3Model", "Gemma3Config")


def is_config(node):
    """config, self.config or module.config."""
    return (isinstance(node, ast.Name) and node.id == "config" or
            isinstance(node, ast.Attribute) and node.attr == "config")


def is_key(name):
    """Methods and attributes of classes are none."""
    return not callable(getattr(PreTrainedConfig, name, None)) and not hasattr(
        RotaryEmbeddingConfigMixin, name)


def constant(call, place):
    if len(call.args) > place and isinstance(call.args[place], ast.Constant):
        return call.args[place].value
    return None


def model_classes(path):
    tree = ast.parse(path.read_text())
    return [node for node in tree.body
            if not (isinstance(node, ast.ClassDef) and any(t in node.name for t in OTHER_CLASSES))]


def attributes_of_config(path):
    """What a modeling file reads: config.NAME and getattr(config, "NAME")."""
    found = set()
    for node in (n for top in model_classes(path) for n in ast.walk(top)):
        if isinstance(node, ast.Attribute) and is_config(node.value):
            found.add(node.attr)
        elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and
              node.func.id == "getattr" and is_config(node.args[0]) and constant(node, 1)):
            found.add(constant(node, 1))
    return found


def attributes_of_self(path):
    """What a configuration class reads: self.NAME, and kwargs.get("NAME") and the like."""
    found = set()
    for top in (c for c in model_classes(path) if isinstance(c, ast.ClassDef)):
        for node in ast.walk(top):
            if (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and
                    isinstance(node.value, ast.Name) and node.value.id == "self"):
                found.add(node.attr)
            elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and
                  node.func.attr in ("get", "pop", "setdefault") and
                  isinstance(node.func.value, ast.Name) and node.func.value.id == "kwargs"):
                found.add(constant(node, 0))
        # Class attributes, which no file holds.
        found -= {t.id for n in top.body if isinstance(n, ast.Assign)
                  for t in n.targets if isinstance(t, ast.Name)}
    return found


def rope_keys():
    """The keys of RoPE's parameters that the kinds of scaling read."""
    found = {"rope_type", "type", "rope_theta"}
    for function in ast.parse((SOURCES / "modeling_rope_utils.py").read_text()).body:
        name = getattr(function, "name", "")
        if not name.startswith("_compute_") or "proportional" in name:
            continue
        for node in ast.walk(function):
            if (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and
                    getattr(node.value, "id", "") == "rope_parameters_dict"):
                found.add(node.slice.value)
            elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and
                  node.func.attr == "get"):
                found.add(constant(node, 0))
    return found


def known_keys():
    seeds = sorted((ROOT / "models/families/testdata/config").glob("*.json"))
    printed = subprocess.run([ROOT / "bazel-bin/tests/config_keys", *seeds], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    known = {}
    for line in printed.splitlines():
        family, key, use, *reason = line.split("\t")
        known.setdefault(family, {}).setdefault(key, ": ".join([use, *reason]))
    return known


def main():
    known, missing, rope = known_keys(), 0, rope_keys()
    for family, folder in FAMILIES.items():
        folder = folder or family
        path = SOURCES / "models" / folder
        names = attributes_of_config(path / f"modeling_{folder}.py")
        names |= attributes_of_self(path / f"configuration_{folder}.py")
        names = {name for name in names if name and is_key(name)}
        if family == "llama":  # the kinds of scaling are one code for all families
            names |= {f"rope_scaling.{key}" for key in rope}
        for name in sorted(names):
            use = known.get(family, {}).get(name)
            missing += use is None
            if use is None or "--list" in sys.argv:
                print(f"{family}: {name}: {use or 'MISSING'}")
        print(f"{family}: {len(names)} keys that transformers {transformers.__version__} reads")
    if missing:
        sys.exit(f"error: {missing} keys are missing")


if __name__ == "__main__":
    main()
