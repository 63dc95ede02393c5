#!/usr/bin/env python3
"""Makes the goldens of //tests:families_parity_test with PyTorch and transformers.

    pip install torch==2.15.0 transformers==5.24.0
    python3 tests/goldens/make_family_goldens.py [NAME ...]

For each family a tiny model that has every feature of it: windows shorter than the sequence, layers
that differ, heads in groups, parts of heads, scalings, caps small enough to matter. Each becomes a
folder tests/goldens/families/NAME/: the initial checkpoint as transformers saves it, gradients
(the same tensors: of the mean loss of the first batch), and golden.json: its logits, and losses and
gradient norms of 20 steps of AdamW with clipping on tests/goldens/tokens.bin. The test has the
same constants.
"""

import copy
import json
import pathlib
import shutil
import struct
import sys

import torch
import transformers

HERE = pathlib.Path(__file__).parent / "families"
VOCAB, SEQ_LEN, BATCH, STEPS = 128, 16, 2, 20
LR, DECAY, BETAS, CLIP = 2e-3, 0.1, (0.9, 0.95), 0.5
EPS = 1e-5  # an update of a gradient that is rounding noise is noise: damp it
WINDOW = 5
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "beta_fast": 2.0, "beta_slow": 0.25}
TYPES = ["sliding_attention", "full_attention"]


def sizes(**others):
    return dict({"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 20,
                 "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
                 "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": None,
                 "pad_token_id": None}, **others)


def gpt2_sizes(**others):
    return dict({"vocab_size": VOCAB, "n_positions": 16, "n_embd": 16, "n_layer": 3, "n_head": 4,
                 "n_inner": 20, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0,
                 "bos_token_id": None, "eos_token_id": None}, **others)


def rope(**parameters):
    return dict({"rope_theta": 100.0}, **parameters)


def configs():
    t = transformers
    yield "gemma2", t.Gemma2Config(**sizes(
        head_dim=6, query_pre_attn_scalar=3, sliding_window=WINDOW, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0, attention_bias=True, rope_parameters=rope()))
    yield "gemma3_text", t.Gemma3TextConfig(**sizes(
        head_dim=6, query_pre_attn_scalar=3, sliding_window=WINDOW, final_logit_softcapping=3.0,
        attention_bias=True, layer_types=[TYPES[0], TYPES[1], TYPES[0]],
        rope_parameters={TYPES[0]: rope(rope_type="default"),
                         TYPES[1]: {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0}}))
    yield "gpt2", t.GPT2Config(**gpt2_sizes(
        activation_function="relu", scale_attn_by_inverse_layer_idx=True,
        tie_word_embeddings=False))
    yield "gpt_bigcode", t.GPTBigCodeConfig(**gpt2_sizes(activation_function="silu"))
    yield "gpt_bigcode_heads", t.GPTBigCodeConfig(**gpt2_sizes(
        multi_query=False, activation_function="gelu"))
    neox = dict(sizes(hidden_size=24))
    del neox["num_key_value_heads"]
    yield "gpt_neox", t.GPTNeoXConfig(**neox, rope_parameters=rope(
        rope_type="default", partial_rotary_factor=0.67))
    yield "gpt_neox_sequential", t.GPTNeoXConfig(
        **neox, use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
        rope_parameters=rope(rope_type="linear", factor=2.0, partial_rotary_factor=1.0))
    yield "granite", t.GraniteConfig(**sizes(
        embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.9,
        logits_scaling=2.5, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        rope_parameters=rope()))
    yield "llama", t.LlamaConfig(**sizes(
        head_dim=6, attention_bias=True, mlp_bias=True, hidden_act="gelu",
        rope_parameters=rope(**YARN, mscale=1.0, mscale_all_dim=0.5)))
    yield "mistral", t.MistralConfig(**sizes(
        head_dim=6, sliding_window=WINDOW, rope_parameters=rope()))
    yield "olmo2", t.Olmo2Config(**sizes(
        attention_bias=True, rope_parameters=rope(rope_type="linear", factor=2.0)))
    yield "olmo3", t.Olmo3Config(**sizes(
        sliding_window=WINDOW, layer_types=[TYPES[0], TYPES[1], TYPES[0]],
        rope_parameters={TYPES[0]: rope(rope_type="default"),
                         TYPES[1]: {**YARN, "rope_theta": 1000.0}}))
    yield "phi3", t.Phi3Config(**sizes(
        hidden_size=24, sliding_window=WINDOW, original_max_position_embeddings=8,
        rope_parameters=rope(rope_type="longrope", partial_rotary_factor=0.67,
                             short_factor=[1.0, 1.25], long_factor=[1.5, 3.0])))
    yield "qwen2", t.Qwen2Config(**sizes(
        use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        tie_word_embeddings=True,
        rope_parameters=rope(rope_type="dynamic", factor=2.0)))
    yield "qwen3", t.Qwen3Config(**sizes(
        head_dim=6, attention_bias=True, use_sliding_window=True, sliding_window=WINDOW,
        layer_types=[TYPES[1], TYPES[0], TYPES[1]],
        rope_parameters=rope(rope_type="llama3", factor=4.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=16)))
    yield "smollm3", t.SmolLM3Config(**sizes(
        no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=WINDOW,
        attention_bias=True, mlp_bias=True, rope_parameters=rope()))
    yield "stablelm", t.StableLmConfig(**sizes(
        hidden_size=32, use_qkv_bias=True,
        rope_parameters=rope(rope_type="default", partial_rotary_factor=0.5)))


def make_model(config):
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():  # weights far from those that do nothing
        for name, p in model.named_parameters():
            if p.dim() >= 2:
                p.copy_(0.3 * torch.randn_like(p))
            else:
                p.add_(0.2 * torch.randn_like(p))
    return model.float().train()


def save_gradients(model, folder):
    """Under the names, and in the layout, of saved weights."""
    gradients = copy.deepcopy(model)
    with torch.no_grad():
        for p, source in zip(gradients.parameters(), model.parameters()):
            assert source.grad.abs().max() > 0
            p.copy_(source.grad)
    gradients.save_pretrained(folder / "tmp")
    data = (folder / "tmp/model.safetensors").read_bytes()
    (folder / "gradients.safetensors").write_bytes(data)
    shutil.rmtree(folder / "tmp")


def make_golden(name, config, tokens):
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1234)
    model = make_model(config)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
        lr=LR, betas=BETAS, eps=EPS)
    golden = {"made_by": f"{pathlib.Path(__file__).name}, torch {torch.__version__}, "
                         f"transformers {transformers.__version__}",
              "losses": [], "grad_norms": []}
    for step in range(STEPS):
        begin = step * BATCH * SEQ_LEN
        window = tokens[begin:begin + BATCH * SEQ_LEN + 1]
        inputs, targets = window[:-1].reshape(BATCH, SEQ_LEN), window[1:]
        logits = model(inputs).logits
        if step == 0:  # nine digits represent an f32 exactly
            golden["logits"] = [float(f"{x:.9g}") for x in logits[0].detach().flatten()]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
        loss.backward()
        if step == 0:
            save_gradients(model, folder)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        golden["losses"].append(loss.item())
        golden["grad_norms"].append(norm.item())
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(f"{name}: loss {golden['losses'][0]:.4f} -> {golden['losses'][-1]:.4f}")


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    raw = (HERE.parent / "tokens.bin").read_bytes()[1024:]
    tokens = torch.tensor(struct.unpack(f"<{len(raw) // 2}H", raw))
    for name, config in configs():
        if not sys.argv[1:] or name in sys.argv[1:]:
            make_golden(name, config, tokens)


if __name__ == "__main__":
    main()
