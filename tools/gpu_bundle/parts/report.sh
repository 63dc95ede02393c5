# The table, its counts, and commands with a time limit and a log.

passed=0 failed=0 skipped=0 part_end=0
run_end=1000000  # in $SECONDS; no part goes on after it

# row NAME RESULT FIGURES
row() {
  # Generated text may contain any byte.
  printf '%-38s %-8s %s\n' "$1" "$2" "$3" | LC_ALL=C tr -c '[:print:]\n' '?' | sed 's/ *$//' |
    tee -a "$table"
}

# pass, fail and skip NAME FIGURES: prints a row and counts it.
pass() {
  passed=$((passed + 1))
  row "$1" passed "$2"
}

fail() {
  failed=$((failed + 1))
  row "$1" FAILED "$2"
}

skip() {
  skipped=$((skipped + 1))
  row "$1" skipped "$2"
}

# begin_part NAME SECONDS: starts a part with this time limit.
begin_part() {
  printf '\n--- %s\n' "$1" | tee -a "$table"
  part_end=$((SECONDS + $2))
  ((part_end <= run_end)) || part_end=$run_end
}

# time_is_up NAME: checks the part's time, and adds a row if it is up.
time_is_up() {
  ((SECONDS >= part_end)) && skip "$1" "no time was left for this part"
}

# within_part SECONDS: prints these, or what is left of the part's time if that is less; at least 1.
within_part() {
  local left=$((part_end - SECONDS))
  echo $((left >= $1 ? $1 : left > 0 ? left : 1))
}

# run_logged SECONDS COMMAND...: runs a command for at most that long, and within the part's time.
# Its output goes to $scratch/said and to the log; with $shown_lines, lines that match this extended
# regular expression also go to the table, each as soon as it is written.
run_logged() {
  local limit status=0
  limit=$(within_part "$1")
  shift
  printf '\n=== %s\n' "$*" >>"$log"
  if [[ -z ${shown_lines:-} ]]; then
    timeout --kill-after=5 "$limit" "$@" >"$scratch/said" 2>&1 </dev/null || status=$?
  else
    timeout --kill-after=5 "$limit" "$@" 2>&1 </dev/null | tee "$scratch/said" | show_lines
    status=${PIPESTATUS[0]}
  fi
  cat "$scratch/said" >>"$log"
  printf '=== exit code %d\n' "$status" >>"$log"
  return "$status"
}

show_lines() {
  grep -aE --line-buffered "$shown_lines" | LC_ALL=C sed -u 's/^/    /; s/ *$//' |
    tee -a "$table"
}

# why_failed STATUS FIGURE: the reason, with the last output line, or the last that matches FIGURE.
why_failed() {
  local said
  said=$(grep -aE "${2:-^\$.}" "$scratch/said" | tail -n 1)
  case $1 in
    124 | 137) echo "stopped: it took too long" ;;
    *) echo "exit code $1: ${said:-$(tail -n 1 "$scratch/said")}" ;;
  esac
}

# run_row NAME SECONDS FIGURE COMMAND...: FIGURE is an extended regular expression; the last line of
# the output that it matches is shown.
run_row() {
  local name=$1 limit=$2 figure=$3 status=0 start=$SECONDS
  shift 3
  if time_is_up "$name"; then return; fi
  run_logged "$limit" "$@" || status=$?
  if ((status == 0)); then
    pass "$name" "$(grep -aE "$figure" "$scratch/said" | tail -n 1), $((SECONDS - start)) s"
  else
    fail "$name" "$(why_failed "$status" "$figure")"
  fi
}

# run_largest NAME SECONDS MICRO_BATCHES COMMAND...: runs with the first --micro_batch that fits
# into the GPU's memory, and sets $micro_batch to it. Only failures make rows.
run_largest() {
  local name=$1 limit=$2 micro_batches=$3 status
  shift 3
  for micro_batch in $micro_batches; do
    if time_is_up "$name"; then return 1; fi
    status=0
    run_logged "$limit" "$@" --micro_batch="$micro_batch" || status=$?
    ((status)) || return 0
    grep -qE 'the run needs|not enough memory|too little memory' "$scratch/said" && continue
    fail "$name" "$(why_failed "$status")"
    return 1
  done
  skip "$name" "$(tail -n 1 "$scratch/said")"
  return 1
}
