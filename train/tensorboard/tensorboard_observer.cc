#include "train/tensorboard/tensorboard_observer.h"

#include "core/base/status_macros.h"
#include "train/run/trainer_options.h"

namespace strake {

namespace {

constexpr char kFolderName[] = "/tensorboard";

}  // namespace

absl::Status TensorBoardObserver::OnPlan(const TrainPlan& plan) {
  return plan.holds_run ? absl::OkStatus()
                        : TensorBoardLog::CheckIsFree(plan.options.directory + kFolderName);
}

absl::Status TensorBoardObserver::OnStart(const TrainStart& start) {
  STRAKE_ASSIGN_OR_RETURN(log_, TensorBoardLog::Open(start.directory + kFolderName, start));
  for (const std::string& note : log_->notes()) {
    if (warn_ != nullptr) warn_(note);
  }
  return absl::OkStatus();
}

}  // namespace strake
