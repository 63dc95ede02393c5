#include "tools/benchmarking/op_times_table.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/cli/terminal_lines.h"

namespace strake {
namespace {

constexpr int kTableColumns = 163;

bool IsTable(int columns) { return columns == 0 || columns >= kTableColumns; }

std::string TableRow(const OpTimes& op) {
  std::string row = absl::StrFormat(
      "%-17s %-27s %-50s %5d %9.4f %9.1f %9.1f ", op.layer, op.op, op.shapes, op.times,
      1e3 * op.seconds, op.cost.flops / op.seconds / 1e12, op.cost.bytes / op.seconds / 1e9);
  if (op.forecast.expected > 0) {
    absl::StrAppendFormat(&row, "%9.4f  %.4f to %.4f", 1e3 * op.forecast.expected,
                          1e3 * op.forecast.low, 1e3 * op.forecast.ceiling);
  }
  return row + "\n";
}

std::string NamesLine(const OpTimes& op) {
  std::vector<std::string> names;
  for (const std::string& name : {op.layer, op.op, op.shapes}) {
    if (!name.empty()) names.push_back(name);
  }
  return absl::StrJoin(names, "  ");
}

std::string NumbersLine(const OpTimes& op) {
  std::string line =
      absl::StrFormat("    %d x %.4f ms, %.1f TFLOP/s, %.1f GB/s", op.times, 1e3 * op.seconds,
                      op.cost.flops / op.seconds / 1e12, op.cost.bytes / op.seconds / 1e9);
  if (op.forecast.expected > 0) {
    absl::StrAppendFormat(&line, "; forecast %.4f, from %.4f to %.4f", 1e3 * op.forecast.expected,
                          1e3 * op.forecast.low, 1e3 * op.forecast.ceiling);
  }
  return line;
}

}  // namespace

std::string OpTimesHeading(int columns) {
  if (!IsTable(columns)) return "";
  return absl::StrFormat("%-17s %-27s %-50s %5s %9s %9s %9s %9s  %s\n", "layer", "op", "shapes",
                         "times", "ms", "TFLOP/s", "GB/s", "forecast", "from low to ceiling");
}

std::string OpTimesRow(const OpTimes& op, int columns) {
  const std::string text =
      IsTable(columns) ? TableRow(op) : absl::StrCat(NamesLine(op), "\n", NumbersLine(op), "\n");
  return WrapLines(text, columns);
}

}  // namespace strake
