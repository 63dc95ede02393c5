// StepLine: a line of a step of metrics.jsonl (train/run/metrics_log.h), read without a tree of
// JSON values, which takes a tenth of the time.
#ifndef STRAKE_TRAIN_REPORT_STEP_LINE_H_
#define STRAKE_TRAIN_REPORT_STEP_LINE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace strake {

struct StepLine {
  // The numbers that are curves or tell how far a run is, in the log's order.
  enum Key { kLoss, kLr, kGradNorm, kTokens, kSeconds, kTokensPerSecond, kTime, kEpoch, kMfu };
  static constexpr std::array<absl::string_view, kMfu + 1> kKeys = {
      "loss", "lr", "grad_norm", "tokens", "seconds", "tokens_per_second", "time", "epoch", "mfu"};

  int64_t step = 0;
  std::array<std::optional<double>, kKeys.size()> numbers = {};    // NaN for null
  std::vector<std::pair<absl::string_view, double>> sources = {};  // with their losses
};

// Reads a line as MetricsLog writes it, with "step", which is at most `max_step`, and "loss".
// Clears what `line` held. Returns false for any other text: it may still be a line that a JSON
// parser reads, with spaces, escapes or keys that are there twice.
bool ReadStepLine(absl::string_view text, int64_t max_step, StepLine* line);

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_STEP_LINE_H_
