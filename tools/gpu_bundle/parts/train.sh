# Part "train": small models trained on the GPU and on the CPU.

# train RUN OPTIONS...: trains into $scratch/RUN.
train() {
  local run=$1
  shift
  run_logged "$ONE_RUN_SECONDS" "$bundle/bin/train" "$@" --out="$scratch/$run"
}

losses() { awk -F'[:,}]' '$3 == "\"loss\"" { print $4 }' "$scratch/$1/metrics.jsonl"; }

# compare_losses EXPECTED ACTUAL DTYPE: prints the largest difference and its bound; false where any
# difference exceeds its bound.
#
# Roundings add up like the steps of a random walk, and a loss is the mean over many tokens. A logit
# comes from PRODUCTS products after each other, of up to TERMS terms. f32 rounds each term of a
# product; bf16 rounds each product and each weight. A token's loss has the error of its logit and
# of its normalizer, for logits of at most 2. The learned part comes from gradients, with the
# roundings of both passes. Steps are far below AdamW's epsilon, so that errors stay in proportion.
compare_losses() {
  paste <(losses "$1") <(losses "$2") | awk -v dtype="$3" -v products="$TRAIN_PRODUCTS" \
    -v terms="$TRAIN_TERMS" -v steps="$TRAIN_STEPS" '
    NF == 2 && $1 $2 ~ /^[-+.e0-9]+$/ {
      if (++n == 1) first = $1
      error = dtype == "bf16" ? sqrt(2 * products) / 2 ^ 9 : sqrt(products * terms) / 2 ^ 24
      learned = first > $1 ? first - $1 : $1 - first
      bound = error * (2 * 2 + 2 * learned)
      difference = $1 > $2 ? $1 - $2 : $2 - $1
      if (difference / bound >= worst) {
        worst = difference / bound; at = n; of = difference; limit = bound
      }
    }
    END {
      if (n != steps) { printf "%d of %d losses are there\n", n, steps; exit 1 }
      printf "loss %.4f -> %.4f; largest difference %.1e, bound %.1e (step %d)\n",
        first, $1, of, limit, at
      exit worst > 1 || 2 * limit > learned
    }'
}

# loss_row NAME EXPECTED ACTUAL DTYPE OPTIONS...: trains ACTUAL, and compares it with EXPECTED.
loss_row() {
  local name=$1 expected=$2 actual=$3 dtype=$4 status=0 figures
  shift 4
  if time_is_up "$name"; then return; fi
  train "$actual" --dtype="$dtype" "$@" || status=$?
  if ((status)); then
    fail "$name" "$(why_failed "$status")"
  elif figures=$(compare_losses "$expected" "$actual" "$dtype"); then
    pass "$name" "$figures"
  else
    fail "$name" "$figures"
  fi
}

# same_bytes_row NAME EXPECTED ACTUAL STATUS: compares weights, optimizer and losses of two runs;
# the second ended with STATUS.
same_bytes_row() {
  local name=$1 expected=$scratch/$2/step-$TRAIN_STEPS actual=$scratch/$3/step-$TRAIN_STEPS file
  if (($4)); then
    fail "$name" "$(why_failed "$4")"
    return
  fi
  for file in model.safetensors optimizer.safetensors; do
    if ! cmp "$expected/$file" "$actual/$file" >"$scratch/said" 2>&1; then
      fail "$name" "$(sed "s|$scratch/||g" "$scratch/said")"
      return
    fi
  done
  if [[ $(losses "$2") == "$(losses "$3")" ]]; then
    pass "$name" "weights, optimizer and losses"
  else
    fail "$name" "weights are the same, and losses differ"
  fi
}

# train_and_kill RUN OPTIONS...: starts a new run and kills it after its first checkpoint. False
# where the run ended before.
train_and_kill() {
  local out=$scratch/$1 child
  shift
  rm -rf "$out"
  "$bundle/bin/train" "$@" --save_every=1 --out="$out" >>"$log" 2>&1 </dev/null &
  child=$!
  while kill -0 "$child" && ((SECONDS < part_end)) && ! compgen -G "$out/step-*[0-9]"; do
    sleep 0.02
  done
  kill -KILL "$child"
  wait "$child"
  (($? == 137))
} >/dev/null 2>&1

# no_graph_row NAME RUN OPTIONS...: repeats RUN without CUDA graphs.
no_graph_row() {
  local name=$1 run=$2 status=0
  shift 2
  if time_is_up "$name, --cuda_graph=false"; then return; fi
  train "$run-no-graph" "$@" --cuda_graph=false || status=$?
  same_bytes_row "$name, --cuda_graph=false" "$run" "$run-no-graph" "$status"
}

# same_bytes_rows NAME RUN OPTIONS...: repeats RUN in other ways that must not change a bit.
same_bytes_rows() {
  local name=$1 run=$2 status
  shift 2
  if time_is_up "$name, same bytes"; then return; fi
  status=0 && train "$run-again" "$@" || status=$?
  same_bytes_row "$name again" "$run" "$run-again" "$status"
  no_graph_row "$name" "$run" "$@"
  if train_and_kill "$run-killed" "$@" || train_and_kill "$run-killed" "$@"; then
    status=0 && train "$run-killed" "$@" || status=$?
    same_bytes_row "$name, killed and resumed" "$run" "$run-killed" "$status"
  else
    skip "$name, killed and resumed" "it ended before it was killed"
  fi
}

# nccl_row NAME EXPECTED ACTUAL DTYPE NUM_PROCESSES OPTIONS...
nccl_row() {
  local name=$1 expected=$2 actual=$3 dtype=$4 count=$5 figures
  shift 5
  if time_is_up "$name"; then return; fi
  if ! has_library libnccl.so.2; then
    skip "$name" "there is no libnccl.so.2"
  elif ! train_over_nccl "$actual" "$count" --dtype="$dtype" "$@"; then
    fail "$name" "$(why_failed 1 '^error')"
  elif figures=$(compare_losses "$expected" "$actual" "$dtype"); then
    pass "$name" "$figures"
  else
    fail "$name" "$figures"
  fi
}

# train_over_nccl RUN NUM_PROCESSES OPTIONS...: trains with a process per GPU, which share the
# batch.
train_over_nccl() {
  local run=$1 count=$2 limit rank children=() status=0
  limit=$(within_part "$ONE_RUN_SECONDS")
  shift 2
  for ((rank = 0; rank < count; ++rank)); do
    RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$count MASTER_ADDR=127.0.0.1 MASTER_PORT=$NCCL_PORT \
      timeout --kill-after=5 "$limit" "$bundle/bin/train" "$@" --comm=nccl --dp="$count" \
      --micro_batch=$((TRAIN_BATCH / count)) --out="$scratch/$run" >"$scratch/said.$rank" 2>&1 </dev/null &
    children+=($!)
  done
  for rank in "${!children[@]}"; do
    wait "${children[rank]}" || status=1
  done
  cat "$scratch"/said.* | tee -a "$log" >"$scratch/said"
  rm "$scratch"/said.*
  return $status
}

# train_model NAME DTYPE OPTIONS...: DTYPE is that of the runs whose bytes are compared.
train_model() {
  local name=$1 of_bytes=$2 dtype status=0
  shift 2
  train "$name-cpu" --device=cpu "$@" || status=$?
  if ((status)); then
    fail "train $name, CPU" "$(why_failed "$status")"
    return
  fi
  set -- --device=cuda "$@"
  for dtype in fp32 bf16; do
    loss_row "train $name, $dtype" "$name-cpu" "$name-$dtype" "$dtype" "$@"
    loss_row "train $name, $dtype, tp 2 x dp 2" "$name-cpu" "$name-$dtype-4" "$dtype" "$@" \
      --tp=2 --dp=2
  done
  same_bytes_rows "train $name, $of_bytes" "$name-$of_bytes" "$@" --dtype="$of_bytes"
  run_row "generate, $name, bf16" "$ONE_RUN_SECONDS" . "$bundle/bin/generate" --device=cuda \
    --dtype=bf16 --checkpoint="$scratch/$name-bf16" --prompt="In the" --max_tokens="$NUM_GENERATED"
}

# The largest number of processes that divides the batch and has a GPU for each.
num_processes() {
  local gpus count=1
  gpus=$(num_gpus)
  while ((2 * count <= gpus && 2 * count <= TRAIN_BATCH)); do
    count=$((2 * count))
  done
  echo "$count"
}

run_train() {
  begin_part "train" "$TRAIN_SECONDS"
  local count
  train_model GPT-2 bf16 "${TRAIN_OPTIONS[@]}" --model="$TRAIN_GPT2"
  train_model Llama fp32 "${TRAIN_OPTIONS[@]}" --model="$TRAIN_LLAMA"
  for count in $({ echo 1 && num_processes; } | sort -u); do
    nccl_row "train GPT-2, fp32, NCCL, $count GPU" GPT-2-cpu "nccl-$count" fp32 "$count" \
      --device=cuda "${TRAIN_OPTIONS[@]}" --model="$TRAIN_GPT2"
  done
}
