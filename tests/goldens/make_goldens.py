#!/usr/bin/env python3
"""Makes the goldens of //tests:pytorch_parity_test with PyTorch and transformers.

    pip install torch transformers
    python3 tests/goldens/make_goldens.py

For a small GPT-2 and a small Llama it writes tests/goldens/FAMILY/: the initial checkpoint as
transformers saves it, and golden.json: the loss and gradient norm of 50 steps of AdamW with clipping
and warm-up on tests/goldens/tokens.bin, the logits of the first sample before and after, and the
versions that made them. The flags that make //tools:train do the same stand in golden.json too.
"""

import json
import math
import pathlib
import struct

import torch
import transformers

HERE = pathlib.Path(__file__).parent
VOCAB, SEQ_LEN, BATCH, STEPS = 128, 16, 4, 50
LR, MIN_LR, WARMUP, DECAY, BETAS, EPS, CLIP = 5e-3, 5e-4, 10, 0.1, (0.9, 0.95), 1e-8, 0.5


def make_tokens(count):
    """A noisy linear congruence: predictable in part, so that the loss falls and is never 0."""
    tokens, state, noise = [], 1, 12345
    for _ in range(count):
        noise = (noise * 1103515245 + 12345) % 2**31
        state = (5 * state + 17 + (noise >> 16) % 3) % VOCAB
        tokens.append(state)
    return tokens


def write_llmc(path, tokens):
    header = [20240520, 1, len(tokens)] + [0] * 253
    path.write_bytes(struct.pack("<256i", *header) + struct.pack(f"<{len(tokens)}H", *tokens))


def lr_at(step):
    if step <= WARMUP:
        return LR * step / WARMUP
    progress = (step - 1 - WARMUP) / (STEPS - WARMUP)
    return MIN_LR + (LR - MIN_LR) * (1 + math.cos(math.pi * progress)) / 2


def gpt2():
    # A large initializer_range: gradients far from rounding noise from the first step on.
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=32, n_embd=32, n_layer=2, n_head=4, initializer_range=0.1,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None))


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, max_position_embeddings=64,
        initializer_range=0.1, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 16}))


def train(family, model, tokens):
    folder = HERE / family
    folder.mkdir(exist_ok=True)
    model.float().train()
    with torch.no_grad():  # norms and biases too must matter
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(0.05 * torch.randn_like(p))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    stream = torch.tensor(tokens)
    sample = lambda i: stream[i * SEQ_LEN:i * SEQ_LEN + SEQ_LEN + 1]
    first = sample(0)[None, :-1]
    # Nine digits represent an f32 exactly.
    logits = lambda: [float(f"{x:.9g}") for x in model(first).logits[0].detach().flatten()]
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
        lr=LR, betas=BETAS, eps=EPS)

    initial_logits, losses, norms = logits(), [], []
    for step in range(1, STEPS + 1):
        batch = torch.stack([sample((step - 1) * BATCH + b) for b in range(BATCH)])
        output = model(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(output.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    golden = {
        "made_by": f"make_goldens.py, torch {torch.__version__}, "
                   f"transformers {transformers.__version__}",
        "flags": [f"--seq_len={SEQ_LEN}", f"--micro_batch={BATCH}", f"--global_batch={BATCH}",
                  f"--steps={STEPS}", f"--lr={LR}", f"--min_lr={MIN_LR}", "--schedule=cosine",
                  f"--warmup_steps={WARMUP}", f"--weight_decay={DECAY}", f"--beta1={BETAS[0]}",
                  f"--beta2={BETAS[1]}", f"--eps={EPS}", f"--clip_norm={CLIP}", "--shuffle=false"],
        "losses": losses, "grad_norms": norms,
        "initial_logits": initial_logits, "final_logits": logits(),
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(f"{family}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def main():
    torch.manual_seed(1234)
    torch.set_num_threads(1)
    # //tools:train holds back the last tenth.
    tokens = make_tokens((STEPS * BATCH * SEQ_LEN + 1) * 10 // 9 + 10)
    write_llmc(HERE / "tokens.bin", tokens)
    train("gpt2", gpt2(), tokens)
    train("llama", llama(), tokens)


if __name__ == "__main__":
    main()
