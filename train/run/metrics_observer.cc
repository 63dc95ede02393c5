#include "train/run/metrics_observer.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {

absl::Status MetricsObserver::OnStart(const TrainStart& start) {
  const std::string path = start.directory + "/metrics.jsonl";
  STRAKE_ASSIGN_OR_RETURN(log_, MetricsLog::Open(path, start.step, start.evaluates));
  if (warn_ != nullptr && !log_->damaged_lines().empty()) {
    warn_(absl::StrCat(path, " had damaged lines, which are in ", log_->damaged_lines(), " now"));
  }
  return absl::OkStatus();
}

}  // namespace strake
