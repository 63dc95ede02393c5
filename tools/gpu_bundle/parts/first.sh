# Part "first": what to run in the first ten minutes on a GPU, the riskiest first. Every line is in
# the table as soon as it is known, so that a run that is cut off leaves what it had.

# ops_row WHAT BENCHMARK VARIANT: times each product, or each attention, of a benchmark's model by
# itself.
ops_row() {
  local what=$1 name aim micro_batches options with more shown_lines=.
  IFS='|' read -r name aim micro_batches options <<<"$2"
  IFS='|' read -r with more <<<"$3"
  name="$what, $name$with"
  run_largest "$name" "$ONE_BENCHMARK_SECONDS" "$micro_batches" \
    "$bundle/bin/benchmark" --device=cuda --dtype=bf16 --measure="$what" --quiet $options $more ||
    return
  pass "$name, $micro_batch sequences" "$(figure '^sum .*' | tr -s ' ')"
}

# first_attention: cuDNN has to compute it; the last model, of the longest sequences, comes first.
first_attention() {
  local variant i
  STRAKE_REQUIRE_CUDNN=1 run_gpu_test "$bundle/gpu_tests/$FIRST_ATTENTION"
  for variant in "${FIRST_VARIANTS[@]}"; do
    for ((i = ${#BENCHMARKS[@]} - 1; i >= 0; --i)); do
      ops_row attention "${BENCHMARKS[i]}" "$variant"
    done
  done
}

first_products() {
  local each
  for each in "${BENCHMARKS[@]}"; do
    ops_row products "$each" "|"
  done
}

# first_model NAME MODEL: trains a small model, with CUDA graphs and without.
first_model() {
  local name=$1 status=0
  local options=(--device=cuda --dtype=bf16 "${TRAIN_OPTIONS[@]}" --model="$2")
  if time_is_up "train $name, bf16"; then return; fi
  train "first-$name" "${options[@]}" || status=$?
  if ((status)); then
    fail "train $name, bf16" "$(why_failed "$status")"
    return
  fi
  pass "train $name, bf16" "loss $(losses "first-$name" | sed -n '1p;$p' | paste -sd ' ')"
  no_graph_row "train $name, bf16" "first-$name" "${options[@]}"
}

# first_benchmarks: every model with every variant of its options, with the time of each class.
first_benchmarks() {
  local each variant name aim micro_batches options with more
  local shown_lines='^(note|forecast|communication|ops, |op  |[a-z_]+ +(forward|backward|optimizer) |outside of)'
  for each in "${BENCHMARKS[@]}"; do
    IFS='|' read -r name aim micro_batches options <<<"$each"
    for variant in "${FIRST_VARIANTS[@]}"; do
      IFS='|' read -r with more <<<"$variant"
      benchmark_row "benchmark $name$with" "$aim" "$micro_batches" $options $more
    done
  done
}

run_first() {
  run_end=$FIRST_SECONDS
  begin_part "one kernel" "$FIRST_KERNEL_SECONDS"
  run_gpu_test "$bundle/gpu_tests/$FIRST_KERNEL"
  begin_part "attention by cuDNN" "$FIRST_ATTENTION_SECONDS"
  first_attention
  begin_part "products" "$FIRST_PRODUCTS_SECONDS"
  first_products
  begin_part "GPU tests" "$FIRST_TESTS_SECONDS"
  test_rows
  begin_part "train" "$FIRST_TRAIN_SECONDS"
  first_model GPT-2 "$TRAIN_GPT2"
  first_model Llama "$TRAIN_LLAMA"
  nccl_row "train GPT-2, bf16, NCCL, 1 GPU" first-GPT-2 first-nccl bf16 1 --device=cuda \
    "${TRAIN_OPTIONS[@]}" --model="$TRAIN_GPT2"
  begin_part "check" "$FIRST_CHECK_SECONDS"
  check_rows "${FIRST_CHECKS[@]}"
  begin_part "benchmark" "$FIRST_BENCHMARK_SECONDS"
  first_benchmarks
  begin_part "beside PyTorch" "$FIRST_SECONDS"
  pytorch_rows
}
