"""Trains a vocabulary with Hugging Face's tokenizers and writes bpe_trainer.json, the trainer's golden.

    python3 make_bpe_trainer_golden.py >bpe_trainer.json

The text is made here, of syllables, digits, accents and runs of letters, with many pairs that occur equally
often. The version that made the file stands in it.
"""

import collections
import json
import random

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

VOCAB_SIZE = 600
SPECIAL_TOKENS = ["<end>", "<pad>"]


def make_text():
    rng = random.Random(5)
    syllables = ["ka", "lo", "mi", "re", "sun", "ta", "é", "aa", "ü", "日本", "🙂", "st"]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 5))) for _ in range(120)]
    words += ["aaaaaaa", "2024", "don't", "...", "\n", "\n\n  "]
    return " ".join(rng.choice(words) for _ in range(1500))


def train(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    words = collections.Counter(text[begin:end] for _, (begin, end) in pieces)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return words, json.loads(tokenizer.to_str())["model"]


def main():
    words, model = train(make_text())
    golden = {
        "made_by": "tokenizers " + tokenizers.__version__,
        "special_tokens": SPECIAL_TOKENS,
        "vocab_size": VOCAB_SIZE,
        "words": sorted(words.items()),
        "vocab": sorted(model["vocab"], key=model["vocab"].get),
        "merges": [" ".join(merge) for merge in model["merges"]],
    }
    print(json.dumps(golden, ensure_ascii=False, indent=0))


main()
