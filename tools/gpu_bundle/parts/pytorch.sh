# Part "pytorch", only on request: compares the benchmarks' models with compiled PyTorch.

# The reason why there is nothing to compare with; empty otherwise.
missing_pytorch() {
  local said left=$((part_end - SECONDS))
  said=$(LD_LIBRARY_PATH=$user_library_path timeout $((left < 60 ? left : 60)) python3 -c '
import torch
print("" if torch.cuda.is_available() else "PyTorch finds no GPU that it can use")' 2>&1) ||
    said="no python3 with PyTorch: $(tail -n 1 <<<"$said")"
  echo "$said"
}

pytorch_row() {
  local name=$1 micro_batches=$2
  shift 2
  run_largest "$name" "$ONE_PYTORCH_SECONDS" "$micro_batches" \
    env LD_LIBRARY_PATH="$user_library_path" python3 "$bundle/compare_with_pytorch.py" \
    --device=cuda --rounds=1 --benchmark="$scratch/benchmark" "$@" || return
  pass "$name, $micro_batch sequences" "$(grep -E '^ *Strake / PyTorch' "$scratch/said" |
    tr -s ' ')"
}

run_pytorch() {
  begin_part "beside PyTorch" "$PYTORCH_SECONDS"
  pytorch_rows
}

pytorch_rows() {
  local missing each name aim micro_batches options
  if time_is_up "PyTorch"; then return; fi
  missing=$(missing_pytorch)
  # PyTorch finds its own libraries, and the benchmark those of the bundle.
  printf '#!/bin/bash\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$LD_LIBRARY_PATH" \
    "$bundle/bin/benchmark" >"$scratch/benchmark"
  chmod +x "$scratch/benchmark"
  for each in "${BENCHMARKS[@]}"; do
    IFS='|' read -r name aim micro_batches options <<<"$each"
    if [[ -n $missing ]]; then
      skip "PyTorch, $name" "$missing"
    else
      pytorch_row "PyTorch, $name" "$micro_batches" $options
    fi
  done
}
