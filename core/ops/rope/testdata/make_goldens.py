#!/usr/bin/env python3
"""Makes the goldens of //core/ops/rope:rope_goldens_test with PyTorch and transformers.

    pip install torch transformers
    python3 core/ops/rope/testdata/make_goldens.py

It writes goldens.txt beside itself. Each line is a name and numbers:

    NAME/attention_factor A       of the model's rotary embedding
    NAME/frequencies/P F...       R/2 of them, for P positions
    NAME/last_row/P C... S...     of the table for P positions: R/2 cosines, R/2 sines
    NAME/rotated Y...             [3, 2, D]: two heads of D features at positions 0 to 2, rotated;
                                  before, element n is n % 7 - 3

transformers computes all of it in f32.
"""

import pathlib

import torch
import transformers
from transformers.models.glm import modeling_glm
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.phi3 import modeling_phi3

HERE = pathlib.Path(__file__).parent
SIZES = dict(num_attention_heads=2, num_key_value_heads=2, bos_token_id=None, eos_token_id=None,
             pad_token_id=None)


def llama(**rope_parameters):
    config = transformers.LlamaConfig(
        hidden_size=32, max_position_embeddings=64, rope_parameters=rope_parameters, **SIZES)
    return modeling_llama.LlamaRotaryEmbedding(config)


def yarn(**more):
    return llama(rope_type="yarn", rope_theta=10000.0, factor=8.0,
                 original_max_position_embeddings=256, **more)


def longrope():
    # Heads of 16, of which 12 features are rotated.
    config = transformers.Phi3Config(
        hidden_size=32, max_position_embeddings=64, original_max_position_embeddings=16,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                             short_factor=[1, 1.25, 1.5, 1.75, 2, 2.5],
                             long_factor=[1, 2, 4, 8, 16, 24.5],
                             original_max_position_embeddings=16), **SIZES)
    return modeling_phi3.Phi3RotaryEmbedding(config)


def gpt_neox():
    config = transformers.GPTNeoXConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=64,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25))
    return modeling_gpt_neox.GPTNeoXRotaryEmbedding(config)


def glm():
    config = transformers.GlmConfig(
        hidden_size=24, head_dim=12, max_position_embeddings=64,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5),
        **SIZES)
    return modeling_glm.GlmRotaryEmbedding(config)


# The embedding, the size of a head, and the function that rotates queries and keys.
CASES = {
    "default": (llama(rope_type="default", rope_theta=10000.0), 16, modeling_llama),
    "linear": (llama(rope_type="linear", rope_theta=10000.0, factor=4.0), 16, modeling_llama),
    "dynamic": (llama(rope_type="dynamic", rope_theta=10000.0, factor=4.0), 16, modeling_llama),
    "llama3": (llama(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                     high_freq_factor=4.0, original_max_position_embeddings=32), 16,
               modeling_llama),
    "yarn": (yarn(), 16, modeling_llama),
    "yarn_not_truncated": (yarn(truncate=False, beta_fast=16.0, beta_slow=2.0), 16,
                           modeling_llama),
    "longrope": (longrope(), 16, modeling_phi3),
    "partial": (gpt_neox(), 32, modeling_gpt_neox),
    "interleaved": (glm(), 12, modeling_glm),
}


def lines_of(name, embedding, head_dim, module):
    def line(what, values):
        return " ".join([f"{name}/{what}"] + ["%.9g" % v for v in values])

    def table(num_positions):
        return embedding(torch.zeros(1), torch.arange(num_positions)[None])

    yield line("attention_factor", [embedding.attention_scaling])
    for num_positions in (10, 20) if name == "longrope" else (20,):
        cos, sin = table(num_positions)
        yield line(f"frequencies/{num_positions}", embedding.inv_freq.tolist())
        half = cos.shape[-1] // 2
        last = torch.cat([cos[0, -1, :half], sin[0, -1, :half]])
        yield line(f"last_row/{num_positions}", last.tolist())
    if name in ("default", "longrope", "partial", "interleaved"):
        # [batch, position, head, feature], as in a fused matrix; rotated as [batch, head, ...].
        x = torch.arange(3 * 2 * head_dim).float() % 7 - 3
        heads = x.view(1, 3, 2, head_dim).transpose(1, 2)
        rotated, _ = module.apply_rotary_pos_emb(heads, heads, *table(3))
        yield line("rotated", rotated.transpose(1, 2).flatten().tolist())


def main():
    versions = f"# transformers {transformers.__version__}, torch {torch.__version__}"
    lines = [versions]
    for name, case in CASES.items():
        lines += lines_of(name, *case)
    (HERE / "goldens.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
