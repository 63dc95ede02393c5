#include "train/tensorboard/tensorboard_observer.h"

#include "core/base/status_macros.h"

namespace strake {

absl::Status TensorBoardObserver::OnStart(const TrainStart& start) {
  STRAKE_ASSIGN_OR_RETURN(log_, TensorBoardLog::Open(start.directory + "/tensorboard", start));
  for (const std::string& note : log_->notes()) {
    if (warn_ != nullptr) warn_(note);
  }
  return absl::OkStatus();
}

}  // namespace strake
