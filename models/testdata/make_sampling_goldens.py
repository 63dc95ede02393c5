#!/usr/bin/env python3
"""Prints the goldens of generator_test.cc, SamplingGoldensTest, made with transformers.

    pip install torch transformers
    python3 models/testdata/make_sampling_goldens.py

A row has the tokens seen, the options, and the probabilities of the tokens, whose logits are LOGITS.
"""

import torch
import transformers

LOGITS = [2.0, 1.5, -0.5, 1.0, 0.25, -2.0, 0.75, -1.0]
# Tokens seen, repetition_penalty, temperature, top_k, top_p, min_p.
CASES = [([0, 2, 5], 1.5, 1.0, 0, 1.0, 0.0),
         ([0, 0, 0, 2], 1.5, 0.7, 0, 0.8, 0.0),
         ([1], 1.2, 0.7, 5, 0.9, 0.0),
         ([3], 1.3, 1.5, 6, 0.85, 0.3),
         ([0], 2.0, 2.0, 0, 0.9, 0.55)]


def probabilities(seen, penalty, temperature, top_k, top_p, min_p):
    """Those that GenerationMixin.generate() draws from."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=len(LOGITS), hidden_size=4, intermediate_size=4, num_hidden_layers=1,
        num_attention_heads=1, bos_token_id=None, eos_token_id=None, pad_token_id=None))
    model.lm_head.weight.data.zero_()
    model.lm_head.bias = torch.nn.Parameter(torch.tensor(LOGITS))
    outputs = model.generate(
        torch.tensor([seen]), max_new_tokens=1, do_sample=True, output_scores=True,
        return_dict_in_generate=True, repetition_penalty=penalty, temperature=temperature,
        top_k=top_k, top_p=top_p, min_p=min_p or None)
    return torch.softmax(outputs.scores[0][0].double(), -1)


def braces(values):
    return "{" + ", ".join(f"{value:.4f}".rstrip("0").rstrip(".") for value in values) + "}"


for case in CASES:
    print("{" + ", ".join([braces(case[0]), *map(str, case[1:]), braces(probabilities(*case))])
          + "},")
