#!/bin/bash
# Runs a GPU bundle: ./run.sh. It needs Linux and NVIDIA's driver, and no Python.
#
# Prints a table of what passed, failed and was skipped, with figures, and writes it to gpu_run.txt,
# and all that the programs said to gpu_run.log; both in $OUT, else here. Exit code: 0 where nothing
# failed, 1 where something did, 2 where there is no GPU to use.
set -uo pipefail

bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-.}
table=$out/gpu_run.txt log=$out/gpu_run.log
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Below this folder stand the places that are searched; tests have a system of their own.
system=${STRAKE_SYSTEM_ROOT:-}

readonly CUDA_LIBRARIES='libcuda.so.1 libcublasLt.so libcudnn.so libnccl.so'

# Where CUDA's libraries may stand, the best place first: the driver's in containers, toolkits', and
# those of the wheels that PyTorch brings.
library_folders() {
  local python
  python=$(command -v python3 || true)
  compgen -G "$system/usr/local/nvidia/lib64"
  [[ -z ${CUDA_HOME:-} ]] || compgen -G "$CUDA_HOME/lib64"
  compgen -G "$system/usr/local/cuda/lib64"
  compgen -G "$system/usr/local/cuda-*/lib64" | sort --reverse --version-sort
  compgen -G "$system/opt/cuda/lib64"
  local root site
  for root in ${VIRTUAL_ENV:-} ${CONDA_PREFIX:-} ${python:+"${python%/bin/python3}"} ${HOME:+"$HOME/.local"} \
    "$system"/usr/local "$system"/usr "$system"/opt/* "$system"/opt/*/.venv; do
    for site in "$root"/lib/python3*/{site,dist}-packages; do
      compgen -G "$site/nvidia/*/lib"
      compgen -G "$site/torch/lib"
    done
  done
  compgen -G "$system/usr/lib/wsl/lib"
}

# The file of library $1 (any version of it), empty where there is none: first what the loader knows
# by itself.
find_library() {
  local folder file
  file=$([[ -n $system ]] || PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | awk -v name="$1" \
    'index($1, name) == 1 { print $NF; exit }')
  [[ -z $file ]] || { echo "$file" && return; }
  while read -r folder; do
    for file in "$folder/$1"*; do
      [[ ! -e $file ]] || { echo "$file" && return; }
    done
  done <"$scratch/folders"
}

# Sets LD_LIBRARY_PATH to the bundle's libraries and the folders of CUDA's.
find_libraries() {
  library_folders >"$scratch/folders" 2>/dev/null
  local name file folders=$bundle/lib
  for name in $CUDA_LIBRARIES; do
    file=$(find_library "$name")
    printf '%-18s %s\n' "$name" "${file:-not found}"
    # The system's folders hold other libraries, too, which must not stand before the bundle's.
    [[ -z $file ]] || folders+=:$(dirname "$file")
  done >"$scratch/libraries"
  export LD_LIBRARY_PATH=$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# The reason why no GPU can be used; empty where one can.
missing_gpu() {
  local said status=0
  said=$(STRAKE_REQUIRE_GPU=0 "$bundle/gpu_tests/cuda_runtime_gpu_test" \
    --gtest_filter=CudaRuntimeTest.DescribesItsDevices 2>&1) || status=$?
  if [[ $said == *'no usable GPU: '* ]]; then
    grep -o -m 1 'no usable GPU: .*' <<<"$said"
  elif ((status)) && [[ $said != *'[ RUN '* ]]; then
    echo "gpu_tests/cuda_runtime_gpu_test does not start: ${said:-exit code $status}"
  fi
}

passed=0 failed=0 skipped=0

# row NAME RESULT FIGURES
row() {
  printf '%-34s %-8s %s\n' "$1" "$2" "$3" | sed 's/ *$//' | tee -a "$table"
}

# Runs COMMAND for at most SECONDS: run_logged SECONDS COMMAND... Its output goes to
# $scratch/said and to the log.
run_logged() {
  local status=0
  printf '\n=== %s\n' "${*:2}" >>"$log"
  timeout --kill-after=10 "$@" >"$scratch/said" 2>&1 </dev/null || status=$?
  cat "$scratch/said" >>"$log"
  printf '=== exit code %d\n' "$status" >>"$log"
  return "$status"
}

# The number before "tests" in GoogleTest's line of what $1 (PASSED, SKIPPED, FAILED) says; 0 if none.
count_cases() {
  sed -n "s/^\[ *$1 *\] \([0-9]\{1,\}\) tests\{0,1\}[.,].*/\1/p" "$scratch/said" | tail -n 1 |
    grep . || echo 0
}

run_gpu_test() {
  local name status=0 result=passed ok bad not_run start=$SECONDS
  name=$(basename "$1")
  STRAKE_REQUIRE_GPU=1 run_logged 300 "$1" || status=$?
  ok=$(count_cases PASSED) bad=$(count_cases FAILED) not_run=$(count_cases SKIPPED)
  # A crash counts nothing, and is one.
  if ((status)); then
    result="FAILED"
    ((bad)) || bad=1
  elif ((ok == 0)); then
    result=skipped
  fi
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + not_run))
  local figures="$ok passed, $bad failed, $not_run skipped, $((SECONDS - start)) s"
  ((status == 0)) || figures+=", exit code $status"
  row "$name" "$result" "$figures"
}

# run_program NAME FIGURE COMMAND...: FIGURE is an extended regular expression; the last line of the
# output that it matches is shown.
run_program() {
  local name=$1 figure=$2 status=0
  shift 2
  if run_logged 300 "$@"; then
    passed=$((passed + 1))
    row "$name" passed "$(grep -E "$figure" "$scratch/said" | tail -n 1)"
  else
    status=$?
    failed=$((failed + 1))
    row "$name" FAILED "exit code $status: $(tail -n 1 "$scratch/said")"
  fi
}

# row_skipped NAME REASON
row_skipped() {
  skipped=$((skipped + 1))
  row "$1" skipped "$2"
}

write_head() {
  {
    date --utc '+GPU run of %Y-%m-%d %H:%M UTC'
    # With the driver comes nvidia-smi, but not into every container.
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null ||
      echo "GPU: nvidia-smi does not say"
    cat "$scratch/libraries"
    echo
  } | tee "$table"
  : >"$log"
}

run_all() {
  local test
  for test in "$bundle"/gpu_tests/*; do
    run_gpu_test "$test"
  done
  local bin=$bundle/bin
  run_program "check, CPU" '^PASS' "$bin/check" --model=llama-tiny --tp=2 --dp=2
  run_program "train, CPU" '^step .* loss ' "$bin/train" --model=gpt2-tiny --seq_len=64 \
    --micro_batch=8 --steps=100 --warmup_steps=10 --eval_batches=4 --out="$scratch/run"
  run_program "generate, CPU" . "$bin/generate" --checkpoint="$scratch/run" --prompt="In the" \
    --max_tokens=32
  run_program "benchmark, CPU, gpt2-124m" 'tokens/s' "$bin/benchmark" --model=gpt2-124m --steps=3
  row_skipped "check, CUDA" "not implemented yet"
  row_skipped "train, CUDA" "training on CUDA is not implemented yet"
  row_skipped "benchmark, CUDA" "not implemented yet"
}

main() {
  mkdir -p "$out" || return
  find_libraries
  local missing
  missing=$(missing_gpu)
  if [[ -n $missing ]]; then
    echo "error: $missing" >&2
    return 2
  fi
  write_head
  run_all
  printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped" | tee -a "$table"
  echo "written to $table and $log"
  ((failed == 0))
}

main
