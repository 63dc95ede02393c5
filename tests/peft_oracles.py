#!/usr/bin/env python3
"""Compares adapters (LoRA) with PEFT: each reads what the other writes, with equal logits.

    pip install torch transformers peft
    bazel build //tests:print_logits //tools:export //tools:train
    python3 tests/peft_oracles.py [FAMILY ...]

For each family (by default llama, gpt2, whose matrices are [in, out], and phi3 and gpt_neox, whose
tensors are fused), beside the weights of //tests:families_parity_test:

    written   three steps of training with --lora_rank; PEFT loads the checkpoint as it is
    read      an adapter that PEFT makes, at random, on all linear layers, with the scale of rsLoRA
    exported  the same, merged by //tools:export; transformers loads the result
    begun     a run of one step at rate 0 that begins with it; its checkpoint has the same numbers
    trained   ten steps of a run that begins with it, and of AdamW on PEFT's model

The largest difference of two sets of logits, over the largest logit, must be at most 1e-5. An
adapter must change them by at least 1e-3, so that one that is left out does not pass. Each loss and
each gradient norm of the training must be within 1e-4 of PEFT's, relative. More steps would
magnify rounding: after 17, a gradient norm of phi3 differs by 2.7e-4, and its losses by 1e-6.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import peft
import safetensors.torch
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests/goldens"
FAMILIES = ["llama", "gpt2", "phi3", "gpt_neox"]
NUM_TOKENS = 16
TOLERANCE = 1e-5
TRAINING_TOLERANCE = 1e-4
STEPS, SEQ_LEN, BATCH, RATE, DECAY, BETAS, CLIP = 10, 16, 4, 5e-3, 0.1, (0.9, 0.95), 0.5
LEAST_EFFECT = 1e-3


def run(program, *flags):
    result = subprocess.run([ROOT / "bazel-bin" / program, *map(str, flags)], capture_output=True,
                            text=True)
    if result.returncode != 0:
        sys.exit(f"error: {program}: {result.stderr}")
    return result.stdout


def train(base, adapter_flags, out, steps, rate):
    run("tools/train", f"--init_from={base}", *adapter_flags, f"--out={out}",
        f"--train_data={GOLDENS / 'tokens.bin'}", f"--steps={steps}", "--seq_len=16",
        "--micro_batch=2", "--global_batch=2", f"--lr={rate}", "--warmup_steps=0",
        "--eval_every=0", "--sample_every=0", "--threads=1")
    return out / f"step-{steps}"


def open_model(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True, dtype=torch.float32, attn_implementation="eager")
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        sys.exit(f"error: {directory}: {info}")
    return model.eval()


def open_adapter(base, directory):
    """PEFT warns of tensors that it misses; here each must be there, and no other."""
    model = peft.PeftModel.from_pretrained(open_model(base), directory).eval()
    own = peft.get_peft_model_state_dict(model)
    file = safetensors.torch.load_file(directory / "adapter_model.safetensors")
    if own.keys() != file.keys() or any(not torch.equal(own[key], file[key]) for key in own):
        sys.exit(f"error: {directory}: PEFT's tensors {sorted(own)} are not {sorted(file)}")
    return model


def tokens_of(model):
    return [(17 * i + 3) % model.config.vocab_size for i in range(NUM_TOKENS)]


def logits_of(model):
    with torch.no_grad():
        return model(torch.tensor([tokens_of(model)])).logits[0].flatten()


def own_logits(directory, tokens):
    return torch.tensor(json.loads(run("tests/print_logits", directory, *tokens)))


def difference(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def check_written(base, folder):
    """The largest error, and the effect of the adapter."""
    checkpoint = train(base, ["--lora_rank=3"], folder / "run", steps=3, rate=0.05)
    model = open_adapter(base, checkpoint)
    logits = logits_of(model)
    return (difference(own_logits(checkpoint, tokens_of(model)), logits),
            difference(logits, logits_of(open_model(base))))


def make_adapter(base, directory):
    """Returns PEFT's model with it."""
    torch.manual_seed(7)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=5, lora_alpha=3, use_rslora=True,
                             target_modules="all-linear", init_lora_weights=False)
    model = peft.get_peft_model(open_model(base), config).eval()
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(directory)
    return model


def check_begun(base, adapter, folder):
    """Whether a run that begins with the adapter, and learns nothing, saves the same numbers."""
    saved = train(adapter, [], folder / "begun", steps=1, rate=0)
    old, new = (safetensors.torch.load_file(each / "adapter_model.safetensors")
                for each in (adapter, saved))
    if old.keys() != new.keys() or any(not torch.equal(old[key], new[key]) for key in old):
        sys.exit(f"error: {base.name}: a run that begins with an adapter saves another")
    # PEFT must read the scale back, too: Strake writes rsLoRA's as an alpha.
    return difference(logits_of(open_adapter(base, saved)), logits_of(open_adapter(base, adapter)))


def peft_training(model):
    """The losses and gradient norms of steps of AdamW on the token file, in its order."""
    tokens = torch.frombuffer((GOLDENS / "tokens.bin").read_bytes()[1024:], dtype=torch.uint16)
    tokens = tokens.long()
    trained = [p for name, p in model.named_parameters() if "lora_" in name]
    for p in model.parameters():
        p.requires_grad = any(p is each for each in trained)
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=BETAS, eps=1e-8, weight_decay=DECAY)
    steps = []
    for step in range(STEPS):
        first = step * BATCH * SEQ_LEN
        rows = [tokens[first + b * SEQ_LEN:][:SEQ_LEN + 1] for b in range(BATCH)]
        batch = torch.stack(rows)
        loss = torch.nn.functional.cross_entropy(model(batch[:, :-1]).logits.flatten(0, 1),
                                                 batch[:, 1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        steps.append((loss.item(), norm.item()))
    return steps


def check_trained(base, adapter, folder):
    """The largest relative error of a loss or a gradient norm."""
    run("tools/train", f"--init_from={adapter}", f"--out={folder / 'trained'}",
        f"--train_data={GOLDENS / 'tokens.bin'}", f"--steps={STEPS}", f"--seq_len={SEQ_LEN}",
        f"--micro_batch={BATCH}", f"--global_batch={BATCH}", f"--lr={RATE}", "--warmup_steps=0",
        "--schedule=constant", f"--weight_decay={DECAY}", f"--beta1={BETAS[0]}",
        f"--beta2={BETAS[1]}", f"--clip_norm={CLIP}", "--shuffle=false", "--eval_every=0",
        "--sample_every=0", "--threads=1")
    lines = map(json.loads, (folder / "trained/metrics.jsonl").read_text().splitlines())
    own = [(line["loss"], line["grad_norm"]) for line in lines if "grad_norm" in line]
    model = open_adapter(base, adapter)
    before = logits_of(model)
    theirs = peft_training(model)
    effect = difference(logits_of(model), before)
    if len(own) != STEPS or effect < LEAST_EFFECT:
        sys.exit(f"error: {base.name}: {len(own)} steps, which change the logits by {effect}")
    return max(abs(a - b) / b for ours, peft in zip(own, theirs) for a, b in zip(ours, peft))


def check_read(base, folder):
    """The errors of the adapter as it is, merged, and of runs, and the effect of the adapter."""
    adapter, merged = folder / "adapter", folder / "merged"
    model = make_adapter(base, adapter)
    logits = logits_of(model)
    run("tools/export", f"--checkpoint={adapter}", f"--out={merged}")
    return (difference(own_logits(adapter, tokens_of(model)), logits),
            difference(logits_of(open_model(merged)), logits), check_begun(base, adapter, folder),
            check_trained(base, adapter, folder),
            difference(logits, logits_of(open_model(base))))


def check(family):
    base = GOLDENS / "families" / family
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        written, effect = check_written(base, folder)
        read, exported, begun, trained, effect_of_peft = check_read(base, folder)
    print(f"{family}: written {written:.1e}, read {read:.1e}, exported {exported:.1e}, "
          f"begun {begun:.1e}, trained {trained:.1e}; the adapters change {effect:.1e} and {effect_of_peft:.1e}")
    return (max(written, read, exported, begun) <= TOLERANCE and trained <= TRAINING_TOLERANCE
            and min(effect, effect_of_peft) >= LEAST_EFFECT)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if not all([check(family) for family in sys.argv[1:] or FAMILIES]):
        sys.exit(f"error: the tolerances are {TOLERANCE} and {TRAINING_TOLERANCE}")
