#!/usr/bin/env python3
"""Makes the goldens of //tests:fine_tuning_test with TRL's SFTTrainer.

    pip install torch transformers trl datasets accelerate
    python3 tests/goldens/make_fine_tuning_goldens.py

It writes tests/goldens/fine_tuning/: a small Llama of random weights with the tokenizer that is called
qwen in data/tokenizer/formats/testdata and the tokens of ChatML; examples.jsonl, 20 examples of the
three forms; golden.json, the tokens of each and which of them TRL learns, and the losses; and
gradients.safetensors, every gradient of the 20.

TRL takes examples of one form at a time, so there are three trainings, of one step each, which sums
over its micro-batches. Loss and gradients of the 20 are the means of theirs, weighted by their numbers
of tokens to learn. All is computed in double precision, and the gradients are rounded to single.
"""
import json
import pathlib
import uuid

import datasets
import datasets.fingerprint
import torch
import transformers
import trl
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer

HERE = pathlib.Path(__file__).parent
OUT = HERE / "fine_tuning"
TOKENIZER = HERE.parent.parent / "data/tokenizer/formats/testdata/qwen/tokenizer.json"
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# Functions that datasets cannot pickle have no hash; no result of them is kept.
datasets.fingerprint.Hasher.hash = classmethod(lambda cls, value: uuid.uuid4().hex)

# ChatML, with what TRL needs to mark the answers.
TEMPLATE = """\
{%- for message in messages -%}
{{- "<|im_start|>" + message["role"] + "\\n" -}}
{%- if message["role"] == "assistant" -%}
{%- generation -%}{{- message["content"] + "<|im_end|>\\n" -}}{%- endgeneration -%}
{%- else -%}
{{- message["content"] + "<|im_end|>\\n" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""


def turns(*contents, system=None):
    messages = [] if system is None else [{"role": "system", "content": system}]
    for i, content in enumerate(contents):
        messages.append({"role": ["user", "assistant"][i % 2], "content": content})
    return messages


def pair(*contents, **options):
    messages = turns(*contents, **options)
    return {"prompt": messages[:-1], "completion": messages[-1:]}


MESSAGES = [{"messages": messages} for messages in [
    turns("Who made the hull?", "A carpenter did."),
    turns("What is a strake?", "A plank.", "And a keel?", "Its spine: 1 beam."),
    turns("Hi", "Hello", system="Be brief."),
    turns("  Count to 3 ", "1\n2\n3\n"),
    turns("größer?", "größere Bäume", "船は", "離れた"),
    turns("", "An answer to nothing."),
    turns("a <|im_end|> b", "c <|im_start|>user d"),
    turns("One word.", "x"),
]]
PAIRS = [
    pair("Who made the hull?", "A carpenter did."),
    pair("What floats?", "Wood.", "And what sinks?", "Stone, mostly."),
    pair("Name it", "The Ark", system="You know ships."),
    pair("2 + 2", "4"),
    pair("Line\n", "\n\nbreaks\n"),
    pair("Repeat: word word", "word word"),
]
TEXTS = [{"prompt": prompt, "completion": completion} for prompt, completion in [
    ("1 + 1 =", " 2"),
    ("The carpenter", "s' planks"),
    ("A blank ", " or two"),
    ("Il e", "\u0301tait"),
    ("It ends so", " already<|im_end|>"),
    ("The hull is made of", " planks of wood, which carpenters bend over steam."),
]]


def make_tokenizer():
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ADDED])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>",
                                                pad_token="<|endoftext|>",
                                                clean_up_tokenization_spaces=False)


def make_model(vocab_size):
    torch.manual_seed(8)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=vocab_size, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, max_position_embeddings=128,
        initializer_range=0.2, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None))
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    return model


class Trainer(trl.SFTTrainer):
    """Keeps the losses, and the gradients before they are used."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.step_losses.append(float(loss))
        return loss

    def optimizer_step_hook(self, optimizer, *_):
        self.gradients = {name: p.grad.detach().clone()
                          for name, p in self.model.named_parameters()}


def train(tokenizer, examples, **options):
    model = transformers.LlamaForCausalLM.from_pretrained(OUT, dtype=torch.float64,
                                                          attn_implementation="eager")
    arguments = trl.SFTConfig(
        output_dir="/tmp/fine_tuning_goldens", max_steps=1, per_device_train_batch_size=2,
        gradient_accumulation_steps=len(examples) // 2, max_length=None, packing=False, use_cpu=True,
        bf16=False, max_grad_norm=0.0, gradient_checkpointing=False, report_to=[], save_strategy="no",
        learning_rate=1e-9, loss_type="nll", **options)
    trainer = Trainer(model=model, args=arguments, processing_class=tokenizer,
                      train_dataset=datasets.Dataset.from_list(examples))
    trainer.step_losses = []
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(trainer.optimizer_step_hook)
    trainer.train()
    return trainer


def masks(rows):
    for row in rows:
        mask = [int(label != -100) for label in row["labels"]]
        assert mask[0] == 0 and any(mask)
        yield row["input_ids"], mask


def mean_loss(rows):
    """The definition, without TRL: the mean over all tokens to learn of all examples."""
    model = transformers.LlamaForCausalLM.from_pretrained(OUT, dtype=torch.float64)
    total, count = 0.0, 0
    with torch.no_grad():
        for ids, mask in masks(rows):
            logits = model(torch.tensor([ids])).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
            total += float(losses[torch.tensor(mask[1:], dtype=torch.bool)].sum())
            count += sum(mask)
    return total / count, count


def main():
    OUT.mkdir(exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(OUT)
    tokenizer.chat_template = TEMPLATE  # after it is saved: recognizing templates is not tested here
    make_model(len(tokenizer)).save_pretrained(OUT)
    (OUT / "generation_config.json").unlink(missing_ok=True)
    with open(OUT / "examples.jsonl", "w", encoding="utf-8") as file:
        for example in MESSAGES + PAIRS + TEXTS:
            file.write(json.dumps(example) + "\n")

    golden = {"made_by": f"trl {trl.__version__}, transformers {transformers.__version__}, "
                         f"torch {torch.__version__}", "examples": [], "parts": []}
    gradients, total_loss, total = {}, 0.0, 0
    for examples, options in [(MESSAGES, {"assistant_only_loss": True}),
                              (PAIRS, {"completion_only_loss": True}),
                              (TEXTS, {"completion_only_loss": True})]:
        trainer = train(tokenizer, examples, **options)
        rows = list(trainer.train_dataset)
        loss, count = mean_loss(rows)
        assert abs(sum(trainer.step_losses) - loss) < 1e-6, (trainer.step_losses, loss)
        golden["parts"].append({"examples": len(examples), "targets": count, "loss": loss})
        for ids, mask in masks(rows):
            golden["examples"].append({"ids": ids, "learnt": mask})
        for name, gradient in trainer.gradients.items():
            assert gradient.dtype == torch.float64
            gradients[name] = gradients.get(name, 0) + gradient * count
        total_loss, total = total_loss + loss * count, total + count
    golden["targets"], golden["loss"] = total, total_loss / total
    save_file({name: (gradient / total).float().contiguous() for name, gradient in gradients.items()},
              OUT / "gradients.safetensors")
    with open(OUT / "golden.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")
    assert len(golden["examples"]) == 20


if __name__ == "__main__":
    main()
