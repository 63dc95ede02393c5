#!/bin/bash
# Runs run.sh in bundles of stubs, on simulated systems.
set -uo pipefail

readonly SOURCES=$PWD/tools/gpu_bundle
readonly GPU_TEST_PASSES='echo "[ RUN      ] A.B"; echo "[  PASSED  ] 3 tests."'
failures=0

# expect WHAT CONDITION...
expect() {
  local what=$1
  shift
  "$@" && return
  failures=$((failures + 1))
  printf 'FAILED: %s; exit code %s, output:\n%s\n' "$what" "$status" "$(cat said)"
}

says() { grep -qE -- "$1" said; }

# stub FILE LINE: a program of the bundle.
stub() {
  printf '#!/bin/bash\n%s\n' "$2" >"bundle/$1"
  chmod +x "bundle/$1"
}

# train_stub LINE: bin/train with losses that fall from $loss by $fall, and weights $bytes; LINE may
# change these. If it saves after each step, it hangs after its first checkpoint.
train_stub() {
  stub bin/train 'for option; do [[ $option != --out=* ]] || out=${option#--out=}; done
    if [[ $* == *--save_every=1* && ! -e $out ]]; then mkdir -p "$out/step-1"; exec sleep 20; fi
    loss=5.5 fall=0.1 bytes=same
    '"$1"'
    mkdir -p "$out/step-24"
    for name in model optimizer; do echo "$bytes" >"$out/step-24/$name.safetensors"; done
    for ((step = 1; step <= 24; ++step)); do
      awk -v step=$step -v loss=$loss -v fall=$fall \
        "BEGIN { printf \"{\\\"step\\\":%d,\\\"loss\\\":%.7f,\\\"lr\\\":1}\\n\", step, loss - step * fall }"
    done >"$out/metrics.jsonl"'
}

# A bundle in which everything passes, in a new folder that becomes the current one.
new_bundle() {
  cd "$(mktemp -d "$TEST_TMPDIR/case.XXXX")" && mkdir -p bundle/{bin,gpu_tests,lib} system home || exit
  cp -rL "$SOURCES"/{run.sh,parts,models} bundle/
  echo libcublasLt.so.13 >bundle/linked_cuda_libraries
  echo 1a2b3c4 >bundle/commit
  stub gpu_tests/cuda_runtime_gpu_test "$GPU_TEST_PASSES"
  stub gpu_tests/rms_norm_gpu_test "$GPU_TEST_PASSES"
  stub gpu_tests/cudnn_attention_gpu_test "$GPU_TEST_PASSES"
  stub bin/check 'echo "PASS: all 7 comparisons"'
  train_stub ""
  stub bin/generate 'echo "In the beginning"'
  stub bin/benchmark 'if [[ $* == *--measure=* ]]; then
      echo "layer  op       shapes    times      ms  TFLOP/s"
      echo "mlp up  product  8 x 4 x 2  12  0.5  612.3  1 0.4 0.3 to 0.6"
      echo "sum  products  12  6.1  610.2"
      exit
    fi
    echo "2000.5 tokens/s, 3.1 ms per step (median of 10)"
    echo "60.1 % of the GPU'"'"'s nominal 989 TFLOP/s"
    echo "forecast: 1900 tokens/s, from 1500 to 2200; measured are 1.05 times as many"
    echo "op       pass     ms per step"
    echo "matmul   forward  1.5"'
}

# run [NAME=VALUE...] [-- PART...]; env's options come first.
run() {
  local variables=()
  while (($#)) && [[ $1 != -- ]]; do
    variables+=("$1")
    shift
  done
  env -u OUT -u CUDA_HOME -u VIRTUAL_ENV -u CONDA_PREFIX -u LD_LIBRARY_PATH HOME="$PWD/home" \
    CUDA_VISIBLE_DEVICES=0 STRAKE_SYSTEM_ROOT="$PWD/system" \
    env "${variables[@]}" bundle/run.sh "${@:2}" >said 2>&1
  status=$?
}

new_bundle
run
expect "success" test "$status" = 0
expect "counts of cases and programs" says '^35 passed, 0 failed, 1 skipped in [0-9]+ s$'
expect "the commit" says '^commit 1a2b3c4$'
expect "a check" says '^check gpt2-124m, fp32 +passed +PASS: all 7 comparisons, [0-9]+ s$'
expect "losses" says '^train Llama, bf16 +passed +loss 5.4000 -> 3.1000; largest difference 0.0e\+00, bound'
expect "the same bytes" says '^train GPT-2, bf16, killed and resumed +passed +weights, optimizer and'
expect "what is not there" says '^train GPT-2, fp32, NCCL, 1 GPU +skipped +there is no libnccl.so.2$'
expect "figures" says "^benchmark GPT-2 124M, 64 sequences +passed +2000.5 tokens/s, 3.1 ms per step; 60.1 % of"
expect "the forecast" says '^ +aim: 650000 tokens/s; forecast: 1900 tokens/s, from 1500 to 2200; measured'
expect "the table in a file" grep -q '^rms_norm_gpu_test .*3 passed, 0 failed, 0 skipped' gpu_run.txt
expect "all output in a file" grep -q '^In the beginning' gpu_run.log
expect "a missing library" says '^libnccl.so.2 +not found$'

new_bundle
run -- tests check
expect "success of parts" test "$status" = 0
expect "only these parts" says '^16 passed, 0 failed, 0 skipped in'
expect "files of parts" test -s gpu_run.tests.check.txt -a -s gpu_run.tests.check.log

new_bundle
run -- test
expect "an unknown part" test "$status" = 1
expect "its name" says '^error: there is no part "test"'

new_bundle
run -u HOME PATH=/usr/bin:/bin -- tests
expect "success with few variables" test "$status" = 0

new_bundle
run OUT="$PWD/elsewhere" -- tests
expect "success with OUT" test "$status" = 0
expect "files in OUT" test -s elsewhere/gpu_run.tests.txt -a ! -e gpu_run.tests.txt

new_bundle
stub gpu_tests/cuda_runtime_gpu_test '
  [[ $STRAKE_REQUIRE_GPU == 0 ]] || exit 9
  echo "[ RUN      ] A.B"; echo "f.cc:1: Skipped"; echo "no usable GPU: no CUDA driver"'
run STRAKE_REQUIRE_GPU=1
expect "no GPU" test "$status" = 2
expect "no GPU: one sentence" test "$(cat said)" = "error: no usable GPU: no CUDA driver"
expect "no GPU: no table" test ! -e gpu_run.txt

new_bundle
stub gpu_tests/cuda_runtime_gpu_test 'echo "error while loading shared libraries"; exit 127'
run
expect "no start" test "$status" = 2
expect "no start: the reason" says '^error: .* does not start: error while loading'

new_bundle
stub gpu_tests/rms_norm_gpu_test '
  [[ $STRAKE_REQUIRE_GPU == 1 ]] || exit 0
  echo "[  PASSED  ] 5 tests."; echo "[  SKIPPED ] 1 test, listed below:"
  echo "[  FAILED  ] 2 tests, listed below:"; exit 1'
run -- tests
expect "a failed test" test "$status" = 1
expect "a failed test's cases" \
  says '^rms_norm_gpu_test +FAILED +5 passed, 2 failed, 1 skipped, [0-9]+ s, exit code 1$'
expect "the sum" says '^11 passed, 2 failed, 1 skipped in'

new_bundle
stub gpu_tests/rms_norm_gpu_test 'kill -SEGV $$'
stub bin/check 'echo "FAIL: 1 of 7 comparisons"; echo more; exit 1'
run -- tests check
expect "a crash" test "$status" = 1
expect "a crash counts" says '^rms_norm_gpu_test +FAILED +0 passed, 1 failed, .* exit code 139$'
expect "a check's verdict" says '^check llama-tiny, fp32 +FAILED +exit code 1: FAIL: 1 of 7 comparisons$'

# One hanging command ends by its own limit, and a part skips what it has no time for.
new_bundle
sed -i 's/TESTS_SECONDS=[0-9]* TEST_SECONDS=[0-9]*/TESTS_SECONDS=60 TEST_SECONDS=5/
  s/CHECK_SECONDS=[0-9]* ONE_CHECK_SECONDS=[0-9]*/CHECK_SECONDS=3 ONE_CHECK_SECONDS=9/' \
  bundle/parts/sizes.sh
stub gpu_tests/a_gpu_test 'exec sleep 20'
stub bin/check 'exec sleep 20'
run -- tests check
expect "a test that hangs" says '^a_gpu_test +FAILED +0 passed, 1 failed, .* exit code 124$'
expect "the next test" says '^cuda_runtime_gpu_test +passed'
expect "a check that hangs" says '^check llama-tiny, fp32 +FAILED +stopped: it took too long$'
expect "the next check" says '^check llama-tiny, bf16 +skipped +no time was left for this part$'

# Faults of a GPU's training.
new_bundle
train_stub '[[ $* != *--device=cuda*gpt2*bf16* ]] || loss=5.6
  [[ $* != *--device=cuda*llama*bf16* ]] || loss=nan
  [[ $* != *--tp=2* ]] || loss=5.5002
  [[ $* != *--cuda_graph=false* ]] || bytes=others
  [[ $* != *Llama-fp32-again* ]] || { echo "the loss is not finite"; exit 1; }
  [[ ! -e $out/step-1 ]] || fall=0.0999999'
run -- train
expect "faults" test "$status" = 1
expect "another loss" \
  says '^train GPT-2, bf16 +FAILED +loss 5.4000 -> 3.1000; largest difference 1.0e-01, bound 5.6e-02 \(step 1\)$'
expect "a loss that is not a number" says '^train Llama, bf16 +FAILED +0 of 24 losses are there$'
expect "another loss in fp32" says '^train GPT-2, fp32, tp 2 x dp 2 +FAILED +loss .* difference 2.0e-04'
expect "other bytes" says \
  '^train GPT-2, bf16, --cuda_graph=false +FAILED +GPT-2-bf16/step-24/model.safetensors .* differ'
expect "a program's last words" \
  says '^train Llama, fp32 again +FAILED +exit code 1: the loss is not finite$'
expect "other losses after a kill" \
  says '^train Llama, fp32, killed and resumed +FAILED +weights are the same, and losses differ$'

# Micro-batches that are too large.
new_bundle
stub bin/benchmark '[[ $* == *--micro_batch=[12]* ]] && { echo "7.5 tokens/s, 1.0 ms per step"; exit; }
  echo "error: the run needs 99 GiB on GPU 0 but 3 GiB are free; choose a smaller --model"; exit 1'
run -- benchmark
expect "the largest that fits" says '^benchmark GPT-2 124M, 16 sequences +passed +7.5 tokens/s'
stub bin/benchmark 'echo "error: the run needs 99 GiB"; exit 1'
run -- benchmark
expect "none that fits" test "$status" = 0
expect "none that fits: the reason" says '^benchmark GPT-2 1558M +skipped +error: the run needs 99 GiB$'
stub bin/benchmark 'echo "error: another"; exit 1'
run -- benchmark
expect "another error" says '^benchmark GPT-2 124M +FAILED +exit code 1: error: another$'

# The first ten minutes.
new_bundle
run -- first
expect "success of the first minutes" test "$status" = 0
expect "their order" test "$(grep -oE '^--- .*' said | tr -d '\n')" = \
  "--- one kernel--- attention by cuDNN--- products--- GPU tests--- train--- check--- benchmark--- beside PyTorch"
expect "attention" says '^attention, GPT-2 1558M, 32 sequences +passed +sum products 12 6.1 610.2$'
expect "attention that is not deterministic" \
  says '^attention, GPT-2 124M, not deterministic, 64 sequences +passed +sum products 12 6.1 610.2$'
expect "its option" \
  grep -qE '^=== .*--measure=attention .*--deterministic=false' gpu_run.first.log
expect "the longest sequences first" \
  test "$(grep -m1 -oE '^attention, [^,]*' said)" = "attention, Llama-3-8B"
expect "products" says '^products, Llama-3-8B, 16 layers, 2 sequences +passed +sum '
expect "each product" says '^    mlp up  product  8 x 4 x 2  12  0.5  612.3  1 0.4 0.3 to 0.6$'
expect "a short run" says '^train GPT-2, bf16 +passed +loss 5.4000000 3.1000000$'
expect "no graph" says '^train Llama, bf16, --cuda_graph=false +passed +weights, optimizer and losses$'
expect "a check in bf16" says '^check gpt2-124m, bf16 +passed'
expect "a benchmark" says '^benchmark GPT-2 124M, 64 sequences +passed +2000.5 tokens/s'
expect "the faster attention" says '^benchmark GPT-2 124M, not deterministic, 64 sequences +passed +2000.5'
expect "classes" says '^    matmul   forward  1.5$'
expect "a file" grep -q '^    matmul ' gpu_run.first.txt

# Limits of all parts leave less than ten minutes.
limits=$(bundle=. && . bundle/parts/sizes.sh && echo $((FIRST_KERNEL_SECONDS +
  FIRST_ATTENTION_SECONDS + FIRST_PRODUCTS_SECONDS + FIRST_TESTS_SECONDS + FIRST_TRAIN_SECONDS +
  FIRST_CHECK_SECONDS + FIRST_BENCHMARK_SECONDS)) "$FIRST_SECONDS")
expect "limits within the whole" test "${limits% *}" -lt "${limits#* }"
expect "less than ten minutes" test "${limits#* }" -lt 600

# Attention that falls back is a failure, and the rest goes on.
new_bundle
stub gpu_tests/cudnn_attention_gpu_test '
  [[ ${STRAKE_REQUIRE_CUDNN:-} == 1 ]] || { echo "[  SKIPPED ] 3 tests, listed below:"; exit; }
  echo "[  FAILED  ] 3 tests, listed below:"; exit 1'
stub bin/benchmark '[[ $* != *--measure=attention* ]] ||
  { echo "error: attention runs on own kernels"; exit 1; }
  echo "7.5 tokens/s, 1.0 ms per step"'
run -- first
expect "a fallback fails" test "$status" = 1
expect "a fallback of the test fails" says '^cudnn_attention_gpu_test +FAILED +0 passed, 3 failed,'
expect "a test without this demand is skipped" says '^cudnn_attention_gpu_test +skipped +0 passed, 0 f'
expect "a fallback's reason" \
  says '^attention, GPT-2 124M +FAILED +exit code 1: error: attention runs on own kernels$'
expect "what follows" says '^benchmark GPT-2 1558M, 32 sequences +passed +7.5 tokens/s'

# What was said before time was up is in the table. Processes of NCCL end with their part, too.
new_bundle
sed -i 's/FIRST_ATTENTION_SECONDS=[0-9]*/FIRST_ATTENTION_SECONDS=3/
  s/FIRST_TRAIN_SECONDS=[0-9]*/FIRST_TRAIN_SECONDS=8/' bundle/parts/sizes.sh
mkdir -p system/usr/local/cuda-13.0/lib64
touch system/usr/local/cuda-13.0/lib64/libnccl.so.2
train_stub '[[ $* != *--comm=nccl* ]] || { sleep 20; touch ended; }'
stub bin/benchmark '[[ $* != *--measure=attention* ]] ||
  { echo "layer  op"; echo "attention  forward  612.3"; exec sleep 20; }
  echo "7.5 tokens/s, 1.0 ms per step"'
run -- first
expect "a line before the limit" says '^    attention  forward  612.3$'
expect "the row cut off" says '^attention, Llama-3-8B, 16 layers +FAILED +stopped: it took too long$'
expect "the part's other rows" says '^attention, GPT-2 1558M +skipped +no time was left for this part$'
expect "the next part" says '^products, GPT-2 124M, 64 sequences +passed'
expect "NCCL that hangs" says '^train GPT-2, bf16, NCCL, 1 GPU +FAILED'
expect "its end" test ! -e ended

# All of it ends in time.
new_bundle
sed -i 's/FIRST_SECONDS=[0-9]*/FIRST_SECONDS=0/' bundle/parts/sizes.sh
run -- first
expect "rows without time" says '^benchmark GPT-2 124M +skipped +no time was left for this part$'
expect "nothing ran" says '^0 passed, 0 failed, [0-9]+ skipped in'

# PyTorch, only on request; not this machine's.
new_bundle
mkdir python
printf '#!/bin/bash\necho "No module named torch"; exit 1\n' >python/python3
chmod +x python/python3
run PATH="$PWD/python:$PATH" -- pytorch
expect "no PyTorch" says '^PyTorch, GPT-2 124M +skipped +no python3 with PyTorch: No module named torch$'
printf '#!/bin/bash\n[[ $1 != -c ]] || exit 0\necho "  Strake / PyTorch      1.25"\n' >python/python3
run PATH="$PWD/python:$PATH" -- pytorch
expect "PyTorch" says '^PyTorch, GPT-2 124M, 64 sequences +passed +Strake / PyTorch 1.25$'

# CUDA's libraries in the wheels of a PyTorch installation, one of them in a toolkit, too.
new_bundle
site=$PWD/home/.local/lib/python3.12/site-packages
mkdir -p "$site"/nvidia/{cu13,cudnn}/lib system/usr/local/cuda-{9.2,13.0}/lib64
touch "$site"/nvidia/cu13/lib/libcublasLt.so.13 "$site"/nvidia/cudnn/lib/libcudnn.so.9 \
  system/usr/local/cuda-9.2/lib64/libcublasLt.so.9 \
  system/usr/local/cuda-13.0/lib64/libcublasLt.so.13
stub gpu_tests/rms_norm_gpu_test 'echo "$LD_LIBRARY_PATH"; echo "[  PASSED  ] 1 test."'
run -- tests
expect "a library of a wheel" says "^libcudnn.so.9 +$site/nvidia/cudnn/lib/libcudnn.so.9\$"
expect "the newest toolkit first" says '^libcublasLt.so.13 +.*/cuda-13.0/lib64/libcublasLt.so.13$'
expect "the path of libraries, the bundle's first" grep -q \
  "^$PWD/bundle/lib:$site/nvidia/cudnn/lib:$PWD/system/usr/local/cuda-13.0/lib64\$" gpu_run.tests.log

((failures == 0)) && echo "all as expected"
