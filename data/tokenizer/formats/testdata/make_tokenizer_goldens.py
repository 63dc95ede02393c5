#!/usr/bin/env python3
"""Makes small tokenizers in every format, and what their own libraries make of texts.

Run it in this folder, with tokenizers 0.23.3, tiktoken 0.14.0 and sentencepiece 0.2.3. It writes
texts.json, and for each tokenizer a folder with its files and golden.json:

    made_by    the library
    ids        the tokens of each text of texts.json; null where the case does not apply
    decoded    what they decode to, where that is not the text itself; null otherwise
    bytes      texts that are not UTF-8, in hexadecimal
    byte_ids   their tokens

Hugging Face's trainer chooses among equally frequent letters anew in each run where the alphabet is
limited: gemma, llama2, metaspace and words then come out differently, tokenizer and golden alike.
"""
import base64
import json
import os
import random
import shutil

import sentencepiece
import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

# A text to train on, and texts that it prepares for: written for this purpose.
CORPUS = [
    "A strake is a plank of a ship's hull, and a hull is made of many strakes.",
    "The carpenter cut the planks from one oak; he'd counted them twice, 12 and then 1,234.",
    "They'll sail when the tide turns, won't they? I've seen it, she's seen it, we'd all seen it.",
    "for (int i = 0; i < 100; ++i) {\n  sum += values[i] * 0.5;\n}\nreturn sum;\n",
    "def area(radius):\n    return 3.14159 * radius ** 2\n\n\n# areas\tof circles\n",
    "Die Planken wurden über Nacht genäßt, und größere Schiffe brauchten größere Bäume.",
    "Les navires étaient prêts; où êtes-vous allés après l'été, à l'île ?",
    "Корабль вышел из гавани на рассвете, и ветер был попутный.",
    "船は夜明けに港を出て、東へ向かった。風は良かった。",
    "这艘船在黎明时分离开了港口,向东航行。",
    "السفينة غادرت الميناء عند الفجر.",
    "배는 새벽에 항구를 떠났다. 바람이 좋았다.",
    "जहाज़ भोर में बंदरगाह से निकला।",
    "HELLO, World! camelCase XMLHttpRequest snake_case SHOUTING words WORDS",
    "aaaa aaaa aaaaaaaa bbbb abababab the the the there then them these they",
] * 3

TEXTS = [
    "",
    " ",
    "  ",
    "a",
    "\n",
    "Hello world",
    " Hello  world ",
    "hello\n\n  world\n",
    "\t\tif (x) {\r\n\t}\r\n",
    "The carpenter's planks weren't cut; I'm sure they'll say he'd've known. IT'S WE'LL 'tis",
    "1 12 123 1234 12345 3.14 ٣٤٥ Ⅷ ½ x2y3",
    "trailing blanks   ",
    "trailing line ends \n\n \n",
    "   leading blanks",
    "a  b   c    d     e      f",
    "foo(bar)[baz]{qux}<tag attr=\"v\">&amp;</tag>#!$%^*_+-=~`|\\/?.,;:",
    "snake_case camelCase XMLHttpRequest __init__ a_b",
    "größere Bäume über Straßen; ÄÖÜ",
    "été à l'île, où êtes-vous ?",
    "e\u0301te\u0301 a\u0300 n\u0303 \u0301alone",
    "Корабль вышел из гавани, ЁЖ.",
    "船は夜明けに港を出た。カタカナ ひらがな",
    "这艘船,在黎明时分!离开了港口?",
    "배는 새벽에 항구를 떠났다",
    "السفينة غادرت الميناء عند الفجر",
    "जहाज़ भोर में निकला।",
    "ภาษาไทยไม่มีช่องว่าง",
    "Ελληνικά γράμματα, ΣΊΣΥΦΟΣ",
    "\U0001f600\U0001f601 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \u2764\ufe0f \U0001f44d\U0001f3fd",
    "\U0001d400\U0001d401 \U00020000\U0002a6d6 \U00010348",
    "a\u00a0b\u2003c\u3000d\u2028e\u0085f\u200bg\ufeffh",
    "\u0000\u0001\u001f\u007f\u0080\u009f",
    "\ufffd\uffff\ufffe",
    "\ufb01 \ufb02 \u212b ½ ｆｕｌｌ ㌀ ㍿ ①",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababab aaabaaab",
    "the there then them these they thethethe",
    "------------ ............ !!!!!!!! ????",
    "\u2581a\u2581b \u2581\u2581 c\u2581",
    "<|end|> a<|end|>b <|end|><|end|>",
    "a <left> b\n\t<left>c<left>",
    "a <right>  b <right>\n\tc<right>",
    "word a_word word. wordy word",
    "Straße STRASSE straße Éa éA",
    "SHOUTING  SHOUTING shouting Shouting SHOUTINGSHOUTING",
    "x<both> y <both> z",
    "<|end|",
    "one  \n\n  two \n# 12345 a\n #b 1\n123456\n \n",
    "<unk> <0x41> <0x0A>",
]

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

ADDED = [
    AddedToken("<|end|>", special=True, normalized=False),
    AddedToken("<left>", lstrip=True, normalized=False),
    AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, special=True, normalized=False),
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("SHOUTING", normalized=True),
]

# The parts of texts that are no character: a lone continuation, an unfinished character, a
# surrogate, an overlong form, and one beyond Unicode.
BYTES = [
    b"\x80",
    b"abc \xff\xfe def",
    b"caf\xc3 au lait",
    b"\xe2\x82 one \xed\xa0\x80 two \xc0\xaf three \xf4\x90\x80\x80",
    b"the planks\xf0\x9f\x98",
    b"\xf0\x9f\x98 the planks of a hull",
]


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def write_golden(name, library, encode, decode, encode_bytes=None, applies=lambda text: True):
    golden = {"made_by": f"{library.__name__} {library.__version__}", "ids": [], "decoded": []}
    for text in TEXTS:
        ids = encode(text) if applies(text) else None
        decoded = decode(ids) if ids is not None else text
        golden["ids"].append(ids)
        golden["decoded"].append(None if decoded == text else decoded)
    if encode_bytes:
        golden["bytes"] = [text.hex() for text in BYTES]
        golden["byte_ids"] = [encode_bytes(text) for text in BYTES]
    write_json(f"{name}/golden.json", golden)


def fresh(name):
    shutil.rmtree(name, ignore_errors=True)
    os.mkdir(name)


# Hugging Face's.


def save(name, tokenizer, added=ADDED):
    fresh(name)
    tokenizer.add_tokens(added)
    tokenizer.save(f"{name}/tokenizer.json", pretty=False)
    write_golden(name, tokenizers,
                 lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                 lambda ids: tokenizer.decode(ids, skip_special_tokens=False))


def train(tokenizer, vocab_size, **options):
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, **options))
    return tokenizer


def byte_level(pre_tokenizer, vocab_size=400, normalizer=None, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def make_gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    save("gpt2", tokenizer)


def make_prefix_space():
    save("prefix_space", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), 300))


def make_llama3():
    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CL100K), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ])
    tokenizer = byte_level(split, 420, ignore_merges=True)
    tokenizer.add_tokens(ADDED)
    end = tokenizer.token_to_id("<|end|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", end)]),
    ])
    save("llama3", tokenizer)
    write_json("llama3/tokenizer_config.json", {"bos_token": {"content": "<|end|>"}})
    write_json("llama3/generation_config.json", {"eos_token_id": [end, 0]})


def make_smollm():
    save("smollm", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)
    ]), 350))


def make_deepseek():
    save("deepseek", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(
            Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"
                  r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ]), 350))


def make_oniguruma():
    """What Oniguruma takes for something else than PCRE2 does."""
    pattern = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{2}+|^#|[a-z]{2}?|\s++$|\s+(?!\S)|\s"
    save("oniguruma", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ]), 330))


def make_qwen():
    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CL100K.replace("{1,3}", "")), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ])
    save("qwen", byte_level(split, 350, normalizers.NFC()))


def with_bytes(tokenizer):
    """The same with the tokens <0x00> to <0xFF>, which training does not make, and merges as text."""
    value = json.loads(tokenizer.to_str())
    vocab = value["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    value["model"]["byte_fallback"] = True
    value["model"]["merges"] = [" ".join(merge) for merge in value["model"]["merges"]]
    return value


def make_llama2():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)
    ])
    train(tokenizer, 200, special_tokens=["<unk>"], limit_alphabet=60)
    save("llama2", Tokenizer.from_str(json.dumps(with_bytes(tokenizer))))
    # The file's merges as texts, as files of before 2024 have them.
    value = json.loads(open("llama2/tokenizer.json", encoding="utf-8").read())
    value["model"]["merges"] = [" ".join(merge) for merge in value["model"]["merges"]]
    write_json("llama2/tokenizer.json", value)


def make_gemma():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    train(tokenizer, 200, special_tokens=["<unk>"], limit_alphabet=60)
    save("gemma", Tokenizer.from_str(json.dumps(with_bytes(tokenizer))))


def make_metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(left=False, right=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    train(tokenizer, 150, special_tokens=["<unk>"], limit_alphabet=60)
    save("metaspace", tokenizer)


def make_words():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.Replace(Regex(r"\p{Mn}+"), "")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.Digits(individual_digits=False)
    ])
    tokenizer.decoder = decoders.Fuse()
    train(tokenizer, 150, special_tokens=["<unk>"], limit_alphabet=60)
    save("words", tokenizer)


def make_vocab_merges():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), 320)
    fresh("vocab_merges")
    tokenizer.model.save("vocab_merges")
    end = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["<|end|>"])
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    write_json("vocab_merges/tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "eos_token": "<|end|>", "bos_token": None,
        "add_eos_token": True, "model_max_length": 1024,
        "added_tokens_decoder": {str(end): {"content": "<|end|>", "special": True, **flags}}})
    write_golden("vocab_merges", tokenizers,
                 lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                 lambda ids: tokenizer.decode(ids, skip_special_tokens=False))


# tiktoken's, and Tekken's.


def train_ranks(pattern, vocab_size):
    """Tokens by rank: the single bytes, and then those of a byte-level vocabulary."""
    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ]), vocab_size)
    vocab = tokenizer.get_vocab()
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    byte_of = {}
    for code_point in range(0x110000):
        if len(byte_of) == 256:
            break
        if not 0xD800 <= code_point < 0xE000:
            character = chr(code_point)
            encoded = character.encode()
            for letter, byte in zip(letters.pre_tokenize_str(character)[0][0], encoded):
                byte_of.setdefault(letter, byte)
            if code_point > 0x7FF:
                break
    # These bytes are in no character.
    rest = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(byte_of))
    missing = sorted(set(range(256)) - set(byte_of.values()))
    byte_of.update(zip(sorted(rest, key=ord), missing))
    tokens = [bytes(byte_of[letter] for letter in token)
              for token, _ in sorted(vocab.items(), key=lambda item: item[1])]
    return [bytes([byte]) for byte in range(256)] + [t for t in tokens if len(t) > 1]


def encoding_of(tokens, pattern):
    return tiktoken.Encoding("test", pat_str=pattern, special_tokens={},
                             mergeable_ranks={token: rank for rank, token in enumerate(tokens)})


def make_tiktoken():
    fresh("tiktoken")
    tokens = train_ranks(CL100K, 400)
    with open("tiktoken/ranks.tiktoken", "wb") as file:
        for rank, token in enumerate(tokens):
            file.write(base64.b64encode(token) + b" %d\n" % rank)
    encoding = encoding_of(tokens, CL100K)
    with open("tiktoken/pattern.txt", "w", encoding="utf-8") as file:
        file.write(CL100K)
    write_golden("tiktoken", tiktoken, encoding.encode_ordinary, encoding.decode,
                 encoding._encode_bytes)


def make_tekken(name, version, special_tokens):
    fresh(name)
    tokens = train_ranks(TEKKEN, 380)
    num_special, num_unused = 24, 10
    config = {"pattern": TEKKEN, "num_vocab_tokens": len(tokens), "version": version,
              "default_vocab_size": len(tokens) - num_unused + num_special,
              "default_num_special_tokens": num_special}
    vocab = [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
             for rank, token in enumerate(tokens)]
    value = {"config": config, "vocab": vocab}
    if special_tokens:
        value["special_tokens"] = [{"rank": rank, "token_str": text, "is_control": rank < 3}
                                   for rank, text in enumerate(special_tokens)]
    write_json(f"{name}/tekken.json", value)
    encoding = encoding_of(tokens[:-num_unused], TEKKEN)
    shift = lambda ids: [token + num_special for token in ids]
    # Mistral's own library looks for no special tokens in text.
    write_golden(name, tiktoken, lambda text: shift(encoding.encode_ordinary(text)),
                 lambda ids: encoding.decode([token - num_special for token in ids]),
                 lambda text: shift(encoding._encode_bytes(text)),
                 lambda text: "<unk>" not in text)


# SentencePiece's.


def make_sentencepiece(name, **options):
    fresh(name)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=f"{name}/tokenizer", model_type="bpe",
        minloglevel=2, **options)
    os.remove(f"{name}/tokenizer.vocab")
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{name}/tokenizer.model")
    # Control pieces are looked for in text, which SentencePiece itself does not do. And where it
    # removes extra blanks, it drops several U+2581 at the start of what it decodes.
    removes_blanks = options.get("remove_extra_whitespaces", True)
    write_golden(name, sentencepiece, processor.encode, processor.decode,
                 applies=lambda text: "<unk>" not in text and
                 not (removes_blanks and text.startswith("\u2581")))


def main():
    random.seed(0)
    write_json("texts.json", TEXTS)
    make_gpt2()
    make_prefix_space()
    make_llama3()
    make_smollm()
    make_deepseek()
    make_oniguruma()
    make_qwen()
    make_llama2()
    make_gemma()
    make_metaspace()
    make_words()
    make_vocab_merges()
    make_tiktoken()
    make_tekken("tekken_v3", "v3", None)
    make_tekken("tekken_v11", "v11", ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    make_sentencepiece("sentencepiece", vocab_size=500, byte_fallback=True,
                       normalization_rule_name="identity", remove_extra_whitespaces=False,
                       user_defined_symbols=["<left>", "word", "wordy", "é"],
                       character_coverage=0.98, pad_id=3, allow_whitespace_only_pieces=True)
    with open("rules.tsv", "w", encoding="utf-8") as file:
        for source, target in [("\u212b", "\u00c5"), ("\ufb01", "fi"), ("\u00a0", " "), ("\u3000", " "),
                               ("\t", " "), ("\n", " "), ("①", "1"), ("e\u0301", "\u00e9")]:
            file.write(" ".join(f"{ord(c):X}" for c in source) + "\t" +
                       " ".join(f"{ord(c):X}" for c in target) + "\n")
    make_sentencepiece("sentencepiece_rules", vocab_size=260, normalization_rule_tsv="rules.tsv",
                       character_coverage=0.98, hard_vocab_limit=False)
    os.remove("rules.tsv")


if __name__ == "__main__":
    main()
