# Part "first": what to run in the first ten minutes on a GPU, the riskiest first. Every line is in
# the table as soon as it is known, so that a run that is cut off leaves what it had.

# ops_rows WHAT: times each product, or each attention, of the benchmarks' models by itself.
ops_rows() {
  local what=$1 each name aim micro_batches options shown_lines=.
  for each in "${BENCHMARKS[@]}"; do
    IFS='|' read -r name aim micro_batches options <<<"$each"
    run_largest "$what, $name" "$ONE_BENCHMARK_SECONDS" "$micro_batches" \
      "$bundle/bin/benchmark" --device=cuda --dtype=bf16 --measure="$what" $options || continue
    pass "$what, $name, $micro_batch sequences" "$(figure '^sum .*' | tr -s ' ')"
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
  run_gpu_test "$bundle/gpu_tests/$FIRST_ATTENTION"
  ops_rows attention
  begin_part "products" "$FIRST_PRODUCTS_SECONDS"
  ops_rows products
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
