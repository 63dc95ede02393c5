# Part "check": every op, the model and its slices against the definitions in f64, on the CPU.

run_check() {
  begin_part "check" "$CHECK_SECONDS"
  local each name options
  for each in "${CHECKS[@]}"; do
    IFS='|' read -r name options <<<"$each"
    run_row "check $name" "$ONE_CHECK_SECONDS" '^(PASS|FAIL)' \
      "$bundle/bin/check" --device=cuda $options
  done
}
