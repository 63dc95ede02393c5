// Runs the sections of //tools:check, one after the other.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_RUN_H_
#define STRAKE_TOOLS_CHECKING_CHECK_RUN_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/ops/check/op_check.h"
#include "tools/checking/check_config.h"
#include "tools/checking/check_line.h"
#include "tools/checking/check_report.h"
#include "tools/cli/progress.h"

namespace strake {

// The host memory of each section, and the largest GPU memory of any section.
struct CheckMemoryPlan {
  size_t ops_bytes = 0, truth_bytes = 0, model_bytes = 0, layout_bytes = 0;
  size_t gpu_bytes = 0;
  size_t peak_bytes() const;
};

CheckMemoryPlan PlanCheckMemory(const CheckCommand& command);

// ResourceExhausted, with both figures, where the check needs more host memory than
// `available_bytes`.
absl::Status CheckMemoryFor(const CheckMemoryPlan& plan, size_t available_bytes);

// Prints a line for each comparison, and returns them.
absl::StatusOr<std::vector<CheckLine>> CheckOps(const CheckCommand& command,
                                                const std::vector<OpCheck>& ops, Progress* screen);

// Runs all sections, prints them on `screen` and writes --report, without the verdict. An error
// means that the check could not be run, not that a comparison failed.
absl::StatusOr<CheckReport> RunCheck(const CheckCommand& command, Progress* screen);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_RUN_H_
