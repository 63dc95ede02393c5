# Part "tests": every GPU test; a case that loses its GPU fails.

# The number before "tests" in GoogleTest's line of $1 (PASSED, SKIPPED, FAILED); 0 if none.
count_cases() {
  sed -n "s/^\[ *$1 *\] \([0-9]\{1,\}\) tests\{0,1\}[.,].*/\1/p" "$scratch/said" | tail -n 1 |
    grep . || echo 0
}

run_gpu_test() {
  local name status=0 result=passed ok bad not_run start=$SECONDS
  name=$(basename "$1")
  if time_is_up "$name"; then return; fi
  STRAKE_REQUIRE_GPU=1 run_logged "$TEST_SECONDS" "$1" || status=$?
  ok=$(count_cases PASSED) bad=$(count_cases FAILED) not_run=$(count_cases SKIPPED)
  # A crash prints no counts, and counts as one failure.
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

run_tests() {
  begin_part "GPU tests" "$TESTS_SECONDS"
  test_rows
}

test_rows() {
  local test
  for test in "$bundle"/gpu_tests/*; do
    run_gpu_test "$test"
  done
}
