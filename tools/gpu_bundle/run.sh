#!/bin/bash
# Runs a GPU bundle: ./run.sh [PART...]. It needs Linux and NVIDIA's driver, and no Python.
#
# Parts are tests, check, train and benchmark (by default all of these); pytorch, which needs a
# PyTorch installation; and first, a short run of each for the first ten minutes on a GPU. Prints a table of passed, failed and skipped rows, with figures, and writes
# it to gpu_run.txt, and the programs' output to gpu_run.log (gpu_run.PART.txt and .log where parts
# are named); in $OUT, by default the current folder. Exit code: 0 without a failure, 1 with one, 2
# where no GPU can be used.
set -uo pipefail

bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-.}
table=$out/gpu_run${1:+.$(IFS=. && echo "$*")}.txt
log=${table%.txt}.log
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
user_library_path=${LD_LIBRARY_PATH:-}

for file in sizes report libraries tests check train benchmark pytorch first; do
  . "$bundle/parts/$file.sh"
done

check_parts() {
  local part
  for part in "$@"; do
    case $part in
      tests | check | train | benchmark | pytorch | first) ;;
      *)
        echo "error: there is no part \"$part\": give tests, check, train, benchmark, pytorch or" \
          "first" >&2
        return 1
        ;;
    esac
  done
}

write_head() {
  {
    date --utc '+GPU run of %Y-%m-%d %H:%M UTC'
    echo "commit $(cat "$bundle/commit")"
    # The driver brings nvidia-smi, but not into every container.
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null ||
      echo "GPU: nvidia-smi does not say"
    nvidia-smi 2>/dev/null | grep -o 'CUDA Version: [0-9.]*' | sed 's/^/driver, /'
    cat "$scratch/libraries"
  } | tee "$table"
  : >"$log"
}

main() {
  check_parts "$@" && mkdir -p "$out" || return
  find_libraries
  local missing part
  missing=$(missing_gpu)
  if [[ -n $missing ]]; then
    echo "error: $missing" >&2
    return 2
  fi
  write_head
  (($#)) || set -- tests check train benchmark
  for part in "$@"; do
    "run_$part"
  done
  printf '\n%d passed, %d failed, %d skipped in %d s\n' "$passed" "$failed" "$skipped" "$SECONDS" |
    tee -a "$table"
  echo "written to $table and $log"
  ((failed == 0))
}

main "$@"
