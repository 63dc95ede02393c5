#!/usr/bin/env python3
"""Checks GGUF exports of every family against the package gguf and against llama.cpp itself.

    pip install torch transformers gguf xllamacpp
    bazel build //tools:export
    python3 tests/gguf_oracles.py [--export=bazel-bin/tools/export] [FAMILY ...]
    python3 tests/gguf_oracles.py --model=models/smollm2-135m
    python3 tests/gguf_oracles.py --tokenizer=models/mistral --vocab_size=32768

Makes a tiny model of each family by transformers, with every feature that the family's architecture
in llama.cpp has, and exports it as F32, F16, BF16 and Q8_0. Then

* gguf must read the file, know every key, and name every tensor as its own table of tensors does;
* the tensors must be the model's: F32 exactly, F16 and BF16 rounded, Q8_0 to half a step;
* llama.cpp (in the package xllamacpp, by its C functions) must load the file and give the logits of
  transformers and the tokens of its tokenizer.

Without xllamacpp the last part is left out. --model instead exports a published model's directory,
and compares logits, tokens and a greedy continuation. --tokenizer exports a folder's tokenizer with
a tiny model, and compares llama.cpp's tokens of texts with those of //tools:tokenizer.
"""

import argparse
import ctypes
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENIZERS = ROOT / 'data/tokenizer/formats/testdata'
VOCAB = 512
NUM_TOKENS = 24
TEXTS = ['Hello world', ' two  blanks', "I'm 12345 years old,\n\nthey'll see", 'x = {"a": [1, 2]}',
         'Größe, 漢字 and 🙂']

LLAMA = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
GPT2 = dict(vocab_size=VOCAB, n_embd=64, n_layer=3, n_head=4, n_inner=96, n_positions=64)
LLAMA3 = dict(rope_type='llama3', rope_theta=1000.0, factor=4.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(rope_type='yarn', rope_theta=1000.0, factor=4.0, beta_fast=8.0, beta_slow=1.0,
            original_max_position_embeddings=16)

# Name: model_type, the configuration, a tokenizer.
MODELS = {
    'gemma2': ('gemma2', dict(LLAMA, num_hidden_layers=4, head_dim=32, query_pre_attn_scalar=32,
                              attn_logit_softcapping=5.0, final_logit_softcapping=3.0,
                              sliding_window=5), 'sentencepiece'),
    'gemma3': ('gemma3_text', dict(LLAMA, num_hidden_layers=7, head_dim=32,
                                   query_pre_attn_scalar=32, sliding_window=5,
                                   rope_parameters={
                                       'full_attention': dict(rope_type='linear', factor=4.0,
                                                              rope_theta=1000.0),
                                       'sliding_attention': dict(rope_type='default',
                                                                 rope_theta=100.0)}),
               'sentencepiece'),
    'gemma3_pattern': ('gemma3_text', dict(LLAMA, num_hidden_layers=5, head_dim=32,
                                           query_pre_attn_scalar=32, sliding_window=5,
                                           layer_types=['sliding_attention', 'full_attention',
                                                        'sliding_attention', 'full_attention',
                                                        'sliding_attention']), 'sentencepiece'),
    'gpt2': ('gpt2', GPT2, 'gpt2'),
    'gpt_bigcode': ('gpt_bigcode', dict(GPT2, multi_query=True), 'smollm'),
    'gpt_bigcode_heads': ('gpt_bigcode', dict(GPT2, multi_query=False), 'smollm'),
    'gpt_neox': ('gpt_neox', dict(LLAMA, num_key_value_heads=4, hidden_act='gelu_fast',
                                  use_parallel_residual=True, tie_word_embeddings=False), 'gpt2'),
    'gpt_neox_sequential': ('gpt_neox', dict(LLAMA, num_key_value_heads=4, hidden_act='gelu_fast',
                                             use_parallel_residual=False,
                                             tie_word_embeddings=True), 'gpt2'),
    'granite': ('granite', dict(LLAMA, attention_multiplier=0.3, embedding_multiplier=3.0,
                                residual_multiplier=0.6, logits_scaling=2.5), 'smollm'),
    'llama2': ('llama', LLAMA, 'sentencepiece'),
    'llama3': ('llama', dict(LLAMA, head_dim=32, rope_parameters=LLAMA3, attention_bias=True,
                             mlp_bias=True, tie_word_embeddings=True), 'llama3'),
    'llama_yarn': ('llama', dict(LLAMA, rope_parameters=dict(YARN, attention_factor=1.3)),
                   'smollm'),
    'llama_linear': ('llama', dict(LLAMA, rope_parameters=dict(rope_type='linear', factor=2.0,
                                                               rope_theta=1000.0)), 'tekken_v3'),
    'mistral': ('mistral', dict(LLAMA, head_dim=32, sliding_window=32), 'sentencepiece'),
    'olmo2': ('olmo2', LLAMA, 'llama3'),
    'olmo3': ('olmo3', dict(LLAMA, num_hidden_layers=5, sliding_window=5, rope_parameters={
        'full_attention': YARN,
        'sliding_attention': dict(rope_type='default', rope_theta=1000.0)}), 'llama3'),
    'olmo3_pattern': ('olmo3', dict(LLAMA, num_hidden_layers=5, sliding_window=5,
                                    layer_types=['sliding_attention', 'sliding_attention',
                                                 'full_attention', 'sliding_attention',
                                                 'sliding_attention'],
                                    rope_parameters={
                                        'full_attention': YARN,
                                        'sliding_attention': dict(rope_type='default',
                                                                  rope_theta=1000.0)}), 'llama3'),
    'phi3': ('phi3', dict(LLAMA, max_position_embeddings=512, sliding_window=None,
                          original_max_position_embeddings=256, pad_token_id=0,
                          rope_parameters=dict(
                              rope_type='longrope', rope_theta=1000.0, partial_rotary_factor=0.5,
                              original_max_position_embeddings=256,
                              short_factor=[1.0, 1.25, 1.5, 1.75],
                              long_factor=[1.5, 3.0, 4.0, 5.0])), 'sentencepiece'),
    'qwen2': ('qwen2', dict(LLAMA, tie_word_embeddings=True, rope_parameters=YARN), 'qwen'),
    'qwen3': ('qwen3', dict(LLAMA, head_dim=32), 'deepseek'),
    'smollm3': ('smollm3', dict(LLAMA, num_hidden_layers=5, pad_token_id=0), 'llama3'),
    'stablelm': ('stablelm', dict(LLAMA, use_qkv_bias=True, tie_word_embeddings=True), 'gpt2'),
}
INTERLEAVED = ('llama', 'mistral', 'granite', 'smollm3')
# Pairs of these have q, k and v of each head side by side.
ALTERNATING = ('gpt_neox', 'gpt_bigcode_heads', 'gpt_neox_sequential')


def make_model(name, folder):
    transformers.logging.disable_progress_bar()
    model_type, options, tokenizer = MODELS[name]
    special = dict(bos_token_id=None, eos_token_id=None)
    config = transformers.AutoConfig.for_model(model_type, **{**special, **options})
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation='eager')
    with torch.no_grad():
        for key, p in model.named_parameters():
            is_norm = 'norm' in key or '.ln_' in key
            one = 1.0 if is_norm and key.endswith('weight') and 'gemma' not in model_type else 0.0
            p.copy_(one + torch.randn(p.shape) * (0.15 if p.ndim == 1 else 0.2))
    model.save_pretrained(folder)
    for file in (TOKENIZERS / tokenizer).iterdir():
        if file.name != 'golden.json' and file.name != 'generation_config.json':
            shutil.copy(file, folder / file.name)
    return model.eval()


def interleaved(weight, head_dim):
    """Rows i and i + D/2 of each head to rows 2i and 2i + 1."""
    heads = weight.reshape(-1, 2, head_dim // 2, *weight.shape[1:])
    return heads.swapaxes(1, 2).reshape(weight.shape)


def expected_tensors(name, model, arch):
    config = model.config
    table = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    head_dim = getattr(config, 'head_dim', None) or (
        config.hidden_size // config.num_attention_heads)
    tensors = {}
    for key, tensor in model.state_dict().items():
        tensor = tensor.float()
        target = table.get_name(key, try_suffixes=('.weight', '.bias'))
        if target is None or key.endswith(('.attn.bias', '.masked_bias', 'inv_freq')):
            continue
        if MODELS[name][0] in INTERLEAVED and ('q_proj' in key or 'k_proj' in key):
            tensor = interleaved(tensor, head_dim)
        if name in ALTERNATING and ('query_key_value' in key or 'c_attn' in key):
            heads = tensor.reshape(config.num_attention_heads, 3, head_dim, *tensor.shape[1:])
            tensor = heads.swapaxes(0, 1).reshape(tensor.shape)
        if MODELS[name][0] == 'gpt2' and tensor.ndim == 2 and 'c_' in key:
            tensor = tensor.T
        if 'gemma' in name and key.endswith('norm.weight'):
            tensor = tensor + 1
        tensors[target] = tensor
    return tensors


def check_tensors(name, reader, expected, dtype):
    extra = {'rope_freqs.weight', 'rope_factors_long.weight', 'rope_factors_short.weight'}
    found = {t.name: t for t in reader.tensors}
    missing = set(expected) - set(found) - {'output.weight'}
    unknown = set(found) - set(expected) - extra
    if unknown == {'output.weight'}:  # a copy, which the architecture requires
        expected['output.weight'] = expected['token_embd.weight']
        unknown = set()
    assert not missing and not unknown, (name, missing, unknown)
    for key, tensor in found.items():
        if key in extra:
            continue
        want = expected[key]
        got = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
            assert tensor.n_elements and torch.equal(got.reshape(want.shape), want), (name, key)
        elif tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0:
            blocks = want.reshape(-1, 32)
            step = blocks.abs().max(dim=1, keepdim=True).values / 127 * (1 + 2**-9) + 2**-24
            error = (got.reshape(-1, 32) - blocks).abs()
            assert (error <= step / 2).all() and error.max() > 0, (name, key)
        else:
            rounded = want.to(torch.float16 if dtype == 'f16' else torch.bfloat16).float()
            assert torch.equal(got.reshape(want.shape), rounded), (name, key)
    return len(found)


def known_keys(arch_name):
    keys = set()
    for group in vars(gguf.constants.Keys).values():
        if isinstance(group, type):
            keys |= {v.replace('{arch}', arch_name) for v in vars(group).values()
                     if isinstance(v, str) and not v.startswith('gguf')}
    return keys


class LlamaCpp:
    """The functions of llama.h that are needed."""

    class Params(ctypes.Structure):  # larger than those of the library, which reads what it knows
        _fields_ = [('bytes', ctypes.c_uint8 * 1024)]

    class Batch(ctypes.Structure):
        _fields_ = [('n_tokens', ctypes.c_int32), ('token', ctypes.POINTER(ctypes.c_int32)),
                    ('embd', ctypes.c_void_p), ('pos', ctypes.POINTER(ctypes.c_int32)),
                    ('n_seq_id', ctypes.POINTER(ctypes.c_int32)),
                    ('seq_id', ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
                    ('logits', ctypes.POINTER(ctypes.c_int8))]

    def __init__(self):
        import xllamacpp
        folder = pathlib.Path(xllamacpp.__file__).parent
        self.lib = ctypes.CDLL(str(next(folder.glob('*.so'))))
        for function in ('llama_model_default_params', 'llama_context_default_params'):
            getattr(self.lib, function).restype = self.Params
        for function in ('llama_model_load_from_file', 'llama_init_from_model',
                         'llama_model_get_vocab'):
            getattr(self.lib, function).restype = ctypes.c_void_p
        self.lib.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        self.log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda level, text, data: self.messages.append(text.decode(errors='replace')))
        self.messages = []
        self.lib.llama_log_set(self.log, None)
        self.lib.llama_backend_init()

    def load(self, path):
        self.messages.clear()
        self.model = self.lib.llama_model_load_from_file(str(path).encode(),
                                                         self.lib.llama_model_default_params())
        assert self.model, ''.join(self.messages[-8:])
        self.vocab = self.lib.llama_model_get_vocab(ctypes.c_void_p(self.model))

    def free(self):
        self.lib.llama_model_free(ctypes.c_void_p(self.model))

    def logits(self, tokens, vocab_size=VOCAB):
        """Of all tokens, with a cache of F32 and without flash attention."""
        params = self.lib.llama_context_default_params()
        raw = bytearray(params.bytes)
        # n_ctx, the ubatch of SWA caches; flash_attn_type stands at 52, type_k and type_v (F16, 1)
        # at 104 and 108.
        assert struct.unpack_from('<ii', raw, 104) == (1, 1), 'another llama_context_params'
        struct.pack_into('<I', raw, 0, 64)
        struct.pack_into('<i', raw, 52, 0)
        struct.pack_into('<ii', raw, 104, 0, 0)
        ctypes.memmove(params.bytes, bytes(raw), len(raw))
        context = self.lib.llama_init_from_model(ctypes.c_void_p(self.model), params)
        assert context, ''.join(self.messages[-8:])
        n = len(tokens)
        seq = ctypes.c_int32(0)
        batch = self.Batch(n, (ctypes.c_int32 * n)(*tokens), None, (ctypes.c_int32 * n)(*range(n)),
                           (ctypes.c_int32 * n)(*[1] * n),
                           (ctypes.POINTER(ctypes.c_int32) * n)(*[ctypes.pointer(seq)] * n),
                           (ctypes.c_int8 * n)(*[1] * n))
        assert self.lib.llama_decode(ctypes.c_void_p(context), batch) == 0
        data = self.lib.llama_get_logits(ctypes.c_void_p(context))
        logits = numpy.ctypeslib.as_array(data, (n, vocab_size)).copy()
        self.lib.llama_free(ctypes.c_void_p(context))
        return torch.tensor(logits)

    def tokenize(self, text):
        raw, out = text.encode(), (ctypes.c_int32 * 4096)()
        count = self.lib.llama_tokenize(ctypes.c_void_p(self.vocab), raw, len(raw), out, 4096,
                                        ctypes.c_bool(False), ctypes.c_bool(False))
        return list(out[:count])


def hf_tokens(folder, text):
    from tokenizers import Tokenizer
    if (folder / 'tokenizer.model').exists():
        from sentencepiece import SentencePieceProcessor
        return SentencePieceProcessor(model_file=str(folder / 'tokenizer.model')).encode(text)
    if not (folder / 'tokenizer.json').exists():
        return None
    return Tokenizer.from_file(str(folder / 'tokenizer.json')).encode(
        text, add_special_tokens=False).ids


def check(name, export, llama_cpp, folder):
    model = make_model(name, folder / 'model')
    result = []
    for dtype in ('f32', 'f16', 'bf16', 'q8_0'):
        path = folder / f'{dtype}.gguf'
        subprocess.run([export, f'--checkpoint={folder / "model"}', f'--out={path}',
                        f'--dtype={dtype}'], check=True, stdout=subprocess.PIPE)
        reader = gguf.GGUFReader(path)
        arch_name = reader.fields['general.architecture'].contents()
        arch = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch_name]
        unknown = {k for k in reader.fields if not k.startswith('GGUF.')} - known_keys(arch_name)
        assert not unknown, (name, unknown)
        num_tensors = check_tensors(name, reader, expected_tensors(name, model, arch), dtype)
    print(f'{name}: {arch_name}, {num_tensors} tensors', end='')
    if llama_cpp is not None:
        tokens = [(17 * i + 3) % VOCAB for i in range(NUM_TOKENS)]
        with torch.no_grad():
            want = model(torch.tensor([tokens])).logits[0]
        for dtype, bound in (('f32', 2e-3), ('q8_0', 0.2)):
            llama_cpp.load(folder / f'{dtype}.gguf')
            got = llama_cpp.logits(tokens)
            error = ((got - want).abs().max() / want.abs().max()).item()
            result.append(error <= bound)
            print(f', {dtype} logits differ by {error:.1e}', end='')
            if dtype == 'f32':
                greedy = (got.argmax(dim=1) == want.argmax(dim=1)).float().mean().item()
                result.append(greedy == 1)
                print(f', the likeliest token is the same at {greedy:.0%}', end='')
                for text in TEXTS:
                    want_tokens = hf_tokens(folder / 'model', text)
                    if want_tokens is None:
                        continue
                    got_tokens = llama_cpp.tokenize(text)
                    result.append(got_tokens == want_tokens)
                    if got_tokens != want_tokens:
                        print(f'\n  {text!r}: {got_tokens}, not {want_tokens}', end='')
            llama_cpp.free()
    print(flush=True)
    return all(result)


def greedy(logits_of, tokens, count):
    tokens = list(tokens)
    for _ in range(count):
        tokens.append(int(logits_of(tokens)[-1].argmax()))
    return tokens


def check_published(directory, export, llama_cpp, folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    prompt = hf_tokens(directory, 'The carpenter looked at the sea, and')
    vocab_size = model.config.vocab_size

    def of_transformers(tokens):
        with torch.no_grad():
            return model(torch.tensor([tokens])).logits[0]

    good = True
    for dtype, bound in (('f32', 1e-4), ('bf16', 0.05), ('q8_0', 0.1)):
        path = folder / f'{dtype}.gguf'
        subprocess.run([export, f'--checkpoint={directory}', f'--out={path}', f'--dtype={dtype}'],
                       check=True, stdout=subprocess.PIPE)
        llama_cpp.load(path)
        want, got = of_transformers(prompt), llama_cpp.logits(prompt, vocab_size)
        error = ((got - want).abs().max() / want.abs().max()).item()
        print(f'{directory.name} {dtype}: logits differ by {error:.1e}', end='')
        good = good and error <= bound
        if dtype == 'f32':
            same = greedy(lambda t: llama_cpp.logits(t, vocab_size), prompt, 20) == greedy(
                of_transformers, prompt, 20)
            tokens = all(llama_cpp.tokenize(text) == hf_tokens(directory, text) for text in TEXTS)
            print(f', greedy text is {"equal" if same else "another"}, tokens are '
                  f'{"equal" if tokens else "others"}', end='')
            good = good and same and tokens
        print(flush=True)
        llama_cpp.free()
    return good


def check_tokenizer(directory, vocab_size, programs, llama_cpp, folder):
    config = transformers.AutoConfig.for_model('llama', **dict(
        LLAMA, vocab_size=vocab_size, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        bos_token_id=None, eos_token_id=None, tie_word_embeddings=True))
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / 'model')
    for file in directory.iterdir():
        shutil.copy(file, folder / 'model' / file.name)
    subprocess.run([programs[0], f'--checkpoint={folder / "model"}', f'--out={folder / "a.gguf"}',
                    '--dtype=f16'], check=True, stdout=subprocess.PIPE)
    llama_cpp.load(folder / 'a.gguf')
    texts = TEXTS + [text for text in json.loads((TOKENIZERS / 'texts.json').read_text())
                     if text and '<' not in text]
    others = []
    for text in texts:
        printed = subprocess.run([programs[1], f'--tokenizer={directory}'], input=text.encode(),
                                 check=True, stdout=subprocess.PIPE).stdout
        if llama_cpp.tokenize(text) != [int(token) for token in printed.split()]:
            others.append(text)
    same = len(texts) - len(others)
    print(f'{directory.name}: {same} of {len(texts)} texts have equal tokens', *map(repr, others))
    return not others


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--export', default=ROOT / 'bazel-bin/tools/export')
    parser.add_argument('--model', type=pathlib.Path)
    parser.add_argument('--tokenizer', type=pathlib.Path)
    parser.add_argument('--tokenizer_program', default=ROOT / 'bazel-bin/tools/tokenizer')
    parser.add_argument('--vocab_size', type=int, default=VOCAB)
    parser.add_argument('families', nargs='*', default=list(MODELS))
    args = parser.parse_args()
    try:
        llama_cpp = LlamaCpp()
    except ImportError:
        llama_cpp = None
        print('xllamacpp is not installed: nothing is computed with the files')
    if args.model:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(0 if check_published(args.model, args.export, llama_cpp,
                                          pathlib.Path(folder)) else 1)
    if args.tokenizer:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(0 if check_tokenizer(args.tokenizer, args.vocab_size,
                                          (args.export, args.tokenizer_program), llama_cpp,
                                          pathlib.Path(folder)) else 1)
    bad = []
    for name in args.families:
        with tempfile.TemporaryDirectory() as folder:
            try:
                good = check(name, args.export, llama_cpp, pathlib.Path(folder))
            except (AssertionError, subprocess.CalledProcessError) as error:
                print(f'{name}: {type(error).__name__}: {error}')
                good = False
            if not good:
                bad.append(name)
    print(f'{len(args.families) - len(bad)} of {len(args.families)} agree', *bad)
    sys.exit(1 if bad else 0)


if __name__ == '__main__':
    main()
