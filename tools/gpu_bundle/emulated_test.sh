#!/bin/bash
# Runs run.sh with programs for the emulated GPU, and tiny models.
set -uo pipefail

readonly SOURCES=$PWD/tools/gpu_bundle
failures=0

# expect WHAT CONDITION...
expect() {
  local what=$1
  shift
  "$@" && return
  failures=$((failures + 1))
  echo "FAILED: $what"
}

says() { grep -qE -- "$1" said; }

make_bundle() {
  mkdir -p bundle/{bin,gpu_tests,models,parts} system home
  cp "$SOURCES/run.sh" bundle/
  cp "$SOURCES"/parts/* bundle/parts/
  cp "$SOURCES/emulated_sizes.sh" bundle/parts/sizes.sh
  local program
  for program in train check generate benchmark; do
    ln -s "$RUNFILES_DIR/$TEST_WORKSPACE/tools/${program}_emulated" "bundle/bin/$program"
  done
  ln -s "$RUNFILES_DIR/$TEST_WORKSPACE/core/cuda/cuda_runtime_emulator_test" \
    bundle/gpu_tests/cuda_runtime_gpu_test
  : >bundle/linked_cuda_libraries
  echo 1a2b3c4 >bundle/commit
  echo '{"model_type": "gpt2", "vocab_size": 256, "n_positions": 32, "n_embd": 16, "n_layer": 1,
    "n_head": 2, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0}' >bundle/models/gpt2.json
  echo '{"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 32,
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2}' >bundle/models/llama.json
  local i
  for i in {1..100}; do
    echo "line $((i * i)): the planks of a hull follow one curve"
  done >bundle/text.txt
}

# run [PART]
run() {
  env -u OUT -u CUDA_HOME CUDA_VISIBLE_DEVICES=0 HOME="$PWD/home" \
    STRAKE_SYSTEM_ROOT="$PWD/system" STRAKE_EMULATED_GPU=memory_mib=256 \
    PATH="$PWD/python:$PATH" bundle/run.sh "$@" >said 2>&1
  status=$?
  cat said
}

cd "$(mktemp -d "$TEST_TMPDIR/case.XXXX")" && make_bundle || exit
mkdir python && printf '#!/bin/bash\necho "no PyTorch"; exit 1\n' >python/python3 &&
  chmod +x python/python3
run
expect "success, not exit code $status" test "$status" = 0
expect "the commit" says '^commit 1a2b3c4$'
expect "a test" says '^cuda_runtime_gpu_test +passed +[1-9][0-9]* passed, 0 failed, 0 skipped'
expect "a check" says '^check tiny, bf16 +passed +PASS: all [0-9]+ comparisons'
for model in GPT-2 Llama; do
  for name in "$model, fp32" "$model, bf16" "$model, fp32, tp 2 x dp 2" "$model, bf16, tp 2 x dp 2"; do
    expect "$name" says "^train $name +passed +loss .*; largest difference .*, bound .* \(step [1-4]\)\$"
  done
done
for name in "GPT-2, bf16" "Llama, fp32"; do
  for again in " again" ", --cuda_graph=false" ", killed and resumed"; do
    expect "$name$again" says "^train $name$again +passed +weights, optimizer and losses\$"
  done
done
expect "no NCCL" says '^train GPT-2, fp32, NCCL, 1 GPU +skipped +there is no libnccl.so.2$'
expect "the largest micro-batch" says '^benchmark tiny, 1 sequences +passed +[0-9.]+ tokens/s, '
expect "nothing failed" says '^[0-9]+ passed, 0 failed, 1 skipped in [0-9]+ s$'
((failures == 0)) || tail -n 100 gpu_run.log

run first
expect "a failure, since attention is not cuDNN's" test "$status" = 1
expect "attention" says "^attention, tiny +FAILED +exit code 1: error: attention runs on Strake's own kernels"
expect "the other variant's attention" says '^attention, tiny, not deterministic +FAILED +exit code 1: error: att'
expect "products" says '^products, tiny, 1 sequences +passed +sum products 15 '
expect "a product" says '^    mlp up +product +4 x 64 x 16 with bias, gelu_input +1 '
expect "no rates" says '^    no forecast: .*, and none for emulated GPU$'
for model in GPT-2 Llama; do
  expect "$model" says "^train $model, bf16 +passed +loss [0-9.]+ [0-9.]+\$"
  expect "$model without a graph" says "^train $model, bf16, --cuda_graph=false +passed +weights, optim"
done
expect "a check in bf16" says '^check tiny, bf16 +passed +PASS'
expect "a benchmark" says '^benchmark tiny, 1 sequences +passed +[0-9.]+ tokens/s, '
expect "the other attention" says '^benchmark tiny, not deterministic, 1 sequences +passed +[0-9.]+ tokens'
expect "its classes" says '^    causal_attention +backward +[0-9.]+ '
expect "no other failure" says '^[0-9]+ passed, 2 failed, [0-9]+ skipped in [0-9]+ s$'
((failures == 0)) || tail -n 100 gpu_run.first.log
exit $((failures > 0))
