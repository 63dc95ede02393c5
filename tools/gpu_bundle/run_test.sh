#!/bin/bash
# Runs run.sh in bundles of stubs, on pretended systems.
set -uo pipefail

readonly RUN=$PWD/tools/gpu_bundle/run.sh
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

# A bundle in which everything passes, in a new folder that becomes the current one.
new_bundle() {
  cd "$(mktemp -d "$TEST_TMPDIR/case.XXXX")" && mkdir -p bundle/{bin,gpu_tests,lib} system home || exit
  cp "$RUN" bundle/
  stub gpu_tests/cuda_runtime_gpu_test "$GPU_TEST_PASSES"
  stub gpu_tests/rms_norm_gpu_test "$GPU_TEST_PASSES"
  stub bin/check 'echo "PASS: all"'
  stub bin/train 'echo "step 100/100  loss 2.5"'
  stub bin/generate 'echo "In the beginning"'
  stub bin/benchmark 'echo "2000 tokens/s"'
}

# Arguments are env's: NAME=VALUE, or -u NAME first.
run() {
  env -u OUT -u CUDA_HOME -u VIRTUAL_ENV -u CONDA_PREFIX -u LD_LIBRARY_PATH HOME="$PWD/home" \
    STRAKE_SYSTEM_ROOT="$PWD/system" env "$@" bundle/run.sh >said 2>&1
  status=$?
}

new_bundle
run
expect "success" test "$status" = 0
expect "counts of cases and programs" says '^10 passed, 0 failed, 3 skipped$'
expect "a figure" says '^train, CPU +passed +step 100/100  loss 2.5$'
expect "what is not there" says '^train, CUDA +skipped +training on CUDA is not implemented yet$'
expect "the table in a file" grep -q '^rms_norm_gpu_test .*3 passed, 0 failed, 0 skipped' gpu_run.txt
expect "all output in a file" grep -q '^In the beginning' gpu_run.log
expect "a missing library" says '^libnccl.so +not found$'

new_bundle
run -u HOME PATH=/usr/bin:/bin
expect "success with few variables" test "$status" = 0

new_bundle
run OUT="$PWD/elsewhere"
expect "success with OUT" test "$status" = 0
expect "files in OUT" test -s elsewhere/gpu_run.txt -a -s elsewhere/gpu_run.log -a ! -e gpu_run.txt

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
run
expect "a failed test" test "$status" = 1
expect "a failed test's cases" \
  says '^rms_norm_gpu_test +FAILED +5 passed, 2 failed, 1 skipped, [0-9]+ s, exit code 1$'
expect "the sum" says '^12 passed, 2 failed, 4 skipped$'

new_bundle
stub gpu_tests/rms_norm_gpu_test 'kill -SEGV $$'
stub bin/train 'echo "the loss is not finite"; exit 1'
run
expect "a crash" test "$status" = 1
expect "a crash counts" says '^rms_norm_gpu_test +FAILED +0 passed, 1 failed, .* exit code 139$'
expect "a program's last words" says '^train, CPU +FAILED +exit code 1: the loss is not finite$'

# CUDA's libraries in the wheels of a PyTorch installation, one of them in a toolkit, too.
new_bundle
site=$PWD/home/.local/lib/python3.12/site-packages
mkdir -p "$site"/nvidia/{cu13,cudnn}/lib system/usr/local/cuda-{9.2,13.0}/lib64
touch "$site"/nvidia/cu13/lib/libcublasLt.so.13 "$site"/nvidia/cudnn/lib/libcudnn.so.9 \
  system/usr/local/cuda-{9.2,13.0}/lib64/libcublasLt.so.13
stub bin/generate 'echo "$LD_LIBRARY_PATH"'
run
expect "a library of a wheel" says "^libcudnn.so +$site/nvidia/cudnn/lib/libcudnn.so.9\$"
expect "the newest toolkit first" says '^libcublasLt.so +.*/cuda-13.0/lib64/libcublasLt.so.13$'
expect "the path of libraries, the bundle's first" \
  says "^generate, CPU +passed +$PWD/bundle/lib:$PWD/system/usr/local/cuda-13.0/lib64:$site/nvidia/cudnn/lib"

((failures == 0)) && echo "all as expected"
