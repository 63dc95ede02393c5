# Part "check": every op, the model and its slices against the definitions in f64, on the CPU.

# check_rows CHECK...: as in sizes.sh.
check_rows() {
  local each name options
  for each in "$@"; do
    IFS='|' read -r name options <<<"$each"
    run_row "check $name" "$ONE_CHECK_SECONDS" '^(PASS|FAIL)' \
      "$bundle/bin/check" --device=cuda $options
  done
}

run_check() {
  begin_part "check" "$CHECK_SECONDS"
  check_rows "${CHECKS[@]}"
}
