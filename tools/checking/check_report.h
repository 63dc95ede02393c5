// CheckReport: the results of //tools:check, as a table, a verdict and JSON.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_REPORT_H_
#define STRAKE_TOOLS_CHECKING_CHECK_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nlohmann/json_fwd.hpp"
#include "tools/checking/check_line.h"
#include "tools/checking/check_shards.h"

namespace strake {

struct CheckReport {
  std::string gpu = {};  // its name; empty on the CPU
  // Each in execution order; `layout` only with more than one rank.
  std::vector<CheckLine> ops = {}, model = {}, layout = {};
  std::optional<ShardCoverage> model_coverage = {}, layout_coverage = {};

  int64_t num_lines() const;
  int64_t num_failures() const;
  // The first failure in execution order; null where there is none.
  const CheckLine* FirstFailure() const;
  // 0 without a failure, else 1.
  int ExitCode() const { return FirstFailure() == nullptr ? 0 : 1; }
  // The number of comparisons that passed, or the first that failed and where to look.
  std::string Verdict() const;
};

// The lines of a table: its head, and one comparison. The first column, of 66 characters, is
// narrower where `columns`, unless 0, leave it less; what it has no room for ends with "...".
std::string CheckTableHead(int columns);
std::string CheckTableRow(const CheckLine& line, int columns);

// "12 of 40 comparisons ..., the worst ...".
std::string CheckSummary(const std::vector<CheckLine>& lines);

// "each of 1000 elements was compared once for each rank that holds it: 1500 comparisons"
std::string CoverageText(const ShardCoverage& coverage);

// The keys that --help documents, except "config", "parameters", "device", "dtype" and "seconds".
nlohmann::ordered_json ToJson(const CheckReport& report);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_REPORT_H_
