#include "train/run/metrics_observer.h"

#include "core/base/status_macros.h"

namespace strake {

absl::Status MetricsObserver::OnStart(const TrainStart& start) {
  STRAKE_ASSIGN_OR_RETURN(log_, MetricsLog::Open(start.directory + "/metrics.jsonl", start));
  for (const std::string& note : log_->notes()) {
    if (warn_ != nullptr) warn_(note);
  }
  return absl::OkStatus();
}

}  // namespace strake
