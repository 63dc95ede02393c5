# Part "benchmark": times training steps in bf16; the log shows where the time goes.

# The last match of $1 in the program's output.
figure() { grep -oE "$1" "$scratch/said" | tail -n 1; }

# benchmark_row NAME AIM MICRO_BATCHES OPTIONS...: AIM is the target in tokens/s.
benchmark_row() {
  local name=$1 aim=$2 micro_batches=$3 speed nominal
  shift 3
  run_largest "$name" "$ONE_BENCHMARK_SECONDS" "$micro_batches" \
    "$bundle/bin/benchmark" --device=cuda --dtype=bf16 "$@" || return
  speed=$(figure '[0-9.]+ tokens/s, [0-9.]+ ms per step')
  nominal=$(figure "[0-9.]+ % of the GPU's nominal [0-9.]+ TFLOP/s")
  pass "$name, $micro_batch sequences" \
    "$speed${nominal:+; $nominal}; $(figure '[0-9.]+ % of the [0-9.]+ TFLOP/s of a product')"
  row "" "" "aim: $aim tokens/s; $(figure 'forecast: .*')"
  row "" "" "$(figure 'memory: .* observed on the GPU')"
}

run_benchmark() {
  begin_part "benchmark" "$BENCHMARK_SECONDS"
  local each name aim micro_batches options
  for each in "${BENCHMARKS[@]}"; do
    IFS='|' read -r name aim micro_batches options <<<"$each"
    benchmark_row "benchmark $name" "$aim" "$micro_batches" $options
  done
}
