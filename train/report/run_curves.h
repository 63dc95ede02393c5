// RunCurves: the curves of a run, from its metrics.jsonl (train/run/metrics_log.h) or as they come.
//
//   chart              name                 what
//   loss               training             loss
//   loss               validation           val_loss of data without a name
//   validation         that of the data     val_loss
//   bits_per_byte      that of the data     val_bits_per_byte
//   sources            that of the source   its loss
//   tasks              "NAME", "NAME, normalized"    acc, acc_norm
//   lr, grad_norm, tokens, seconds, tokens_per_second, mfu    (none)
#ifndef STRAKE_TRAIN_REPORT_RUN_CURVES_H_
#define STRAKE_TRAIN_REPORT_RUN_CURVES_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "train/report/curve.h"
#include "train/report/step_line.h"
#include "train/run/train_observer.h"

namespace strake {

class RunCurves {
 public:
  void AddStep(const StepMetrics& metrics);
  void AddEval(const EvalMetrics& metrics);
  void AddTask(const TaskMetrics& metrics);
  // An object of metrics.jsonl. False, and nothing is added, where it is none.
  bool AddLine(const nlohmann::json& line);
  void AddStepLine(const StepLine& line);

  bool empty() const { return num_curves() == 0; }
  int num_curves() const { return static_cast<int>(ByName().size()); }
  int64_t last_step() const { return last_step_; }
  // The passes over the training data, where the log has them.
  std::optional<double> epoch() const { return epoch_; }
  // The time of day of the last step, in seconds since 1970, likewise.
  std::optional<double> time() const { return time_; }

  // A JSON array of objects with "chart", "name" and Curve::JsonMembers().
  std::string Json(int max_parts) const;

 private:
  using Names = std::map<std::string, Curve, std::less<>>;

  void Add(Names* names, absl::string_view name, int64_t step, double value);
  bool AddStepLine(int64_t step, const nlohmann::json& line);
  // Those that have values, by chart and name.
  std::map<std::pair<absl::string_view, absl::string_view>, const Curve*> ByName() const;

  std::array<Curve, StepLine::kKeys.size()> of_steps_;  // by key
  Names sources_;
  std::map<std::string, Names, std::less<>> others_;  // by chart
  int64_t last_step_ = 0;
  std::optional<double> epoch_, time_;
};

struct LoggedCurves {
  RunCurves curves;
  int64_t num_damaged = 0;   // lines that are none of a log, blank ones apart
  int64_t num_replaced = 0;  // lines of steps that were made once more
};

// Reads a log, also while its run appends to it: what follows the last line's end is left out.
// The later lines count where steps go back, as in a log that was put together of two: those before
// them, of the same steps and later ones, are left out. Errors are ReadFile()'s.
absl::StatusOr<LoggedCurves> ReadRunCurves(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_RUN_CURVES_H_
