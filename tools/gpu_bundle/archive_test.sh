#!/bin/bash
# Unpacks the bundle $1, and runs it on a machine without a GPU.
set -uo pipefail

archive=$PWD/$1
failures=0

# expect WHAT CONDITION...
expect() {
  local what=$1
  shift
  "$@" && return
  failures=$((failures + 1))
  echo "FAILED: $what"
}

size=$(stat --dereference --format=%s "$archive")
echo "$((size / 1024)) KiB"
expect "less than 60 MiB" test "$size" -lt $((60 << 20))

cd "$TEST_TMPDIR" && tar --extract --file="$archive" && cd gpu_bundle || exit
expect "the text of the default run" test -s bin/train.runfiles/strake/data/kjv.txt
expect "a test of each kernel's rule" test -x gpu_tests/rms_norm_gpu_test
expect "a test of a library" test -x gpu_tests/gpu_limits_gpu_test
expect "a commit, or unknown" test -s commit
expect "cuBLASLt is linked, and nothing else of CUDA" \
  grep -qxE 'libcublasLt\.so\.[0-9]+' linked_cuda_libraries
expect "cuDNN's attention: its headers were there" grep -q cudnn_frontend bin/benchmark
for program in bin/* gpu_tests/*; do
  [[ -f $program ]] || continue
  # Only the C library and CUDA come from outside the bundle.
  others=$(LD_LIBRARY_PATH=$PWD/lib ldd "$program" | awk '$2 == "=>" { print $3 }' |
    grep -v "^$PWD/lib/" | grep -vE '/(libc|libm|libdl|librt|libpthread|libutil|libcublas(Lt)?)\.so')
  expect "$program: all libraries are in the bundle, but not $others" test -z "$others"
done

# With CUDA's libraries where run.sh finds them, as with a GPU.
with_libraries() (
  bundle=$PWD scratch=$TEST_TMPDIR
  . parts/libraries.sh
  find_libraries
  "$@"
)

said=$(with_libraries bin/check --model=gpt2-tiny --seq_len=8 --micro_batch=1 2>&1) ||
  expect "check, which said $said" false
for config in models/*.json; do
  said=$(with_libraries bin/train --model="$config" --seq_len=8 --print_config 2>&1) ||
    expect "$config, of which train said $said" false
done
# Every option in parts/sizes.sh is known to these programs.
said=$(
  bundle=$PWD
  . parts/sizes.sh
  with_libraries bin/train "${TRAIN_OPTIONS[@]}" --model="$TRAIN_LLAMA" --print_config 2>&1
) || expect "the options of training, of which train said $said" false

# Without a visible device every machine acts like one without a GPU.
said=$(CUDA_VISIBLE_DEVICES="" ./run.sh 2>&1)
status=$?
expect "exit code 2 without a GPU, not $status" test "$status" = 2
expect "one sentence, not: $said" test "$(grep -c '' <<<"$said")" = 1
expect "the reason, not: $said" grep -q '^error: no usable GPU: ' <<<"$said"

exit $((failures > 0))
