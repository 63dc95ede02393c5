#include "train/run/run_start.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "train/engine/mesh_wide.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

bool HoldsRun(const std::string& out) {
  std::error_code error;
  return std::filesystem::exists(out + "/run.json", error);
}

// The checkpoint of --resume=PATH, which must not be behind the last one in --out.
absl::StatusOr<std::string> GivenCheckpoint(const TrainConfig& config,
                                            const std::optional<int64_t>& latest) {
  const auto record = ReadRunRecord(config.resume);
  if (!record.ok()) {
    return absl::Status(
        record.status().code(),
        absl::StrCat("--resume=", config.resume, " is no checkpoint: ", record.status().message()));
  }
  if (latest.value_or(0) <= record->step) return config.resume;
  return absl::FailedPreconditionError(absl::StrCat(
      "--resume=", config.resume, " is at step ", record->step, ", but ", config.out,
      " holds a later checkpoint, of step ", *latest, "; choose another --out or remove it"));
}

// The checkpoint to go on from; empty for a new run.
absl::StatusOr<std::string> FindCheckpoint(const TrainConfig& config,
                                           const std::optional<RunDirectory>& directory) {
  std::optional<int64_t> latest;
  if (directory.has_value()) {
    STRAKE_ASSIGN_OR_RETURN(latest, directory->LatestCheckpoint());
  }
  if (config.resume != "auto" && config.resume != "never") return GivenCheckpoint(config, latest);
  if (!latest.has_value()) return "";
  if (config.resume == "auto") return CheckpointPath(config.out, *latest);
  return absl::FailedPreconditionError(absl::StrCat("--resume=never, but ", config.out,
                                                    " holds checkpoints up to step ", *latest,
                                                    "; choose another --out or remove them"));
}

void WarnOfChanges(const TrainConfig& config, const RunRecord& record,
                   const std::string& checkpoint, Progress* screen) {
  const auto old_steps = record.config.value("steps", nlohmann::ordered_json());
  if (old_steps != config.steps && config.schedule != "constant") {
    screen->Print(absl::StrCat("warning: --steps was ", old_steps.dump(), " and is ", config.steps,
                               ": the learning rates of the remaining steps are recomputed"));
  }
  const auto old_dtype = record.config.value("dtype", nlohmann::ordered_json("fp32"));
  if (old_dtype != config.machine.dtype) {
    screen->Print(absl::StrCat("warning: --dtype was ", old_dtype.dump(), " and is ",
                               config.machine.dtype,
                               ": the run goes on from its fp32 weights, in other precision"));
  }
  const auto old_init_from = record.config.value("init_from", nlohmann::ordered_json(""));
  if (old_init_from != config.init_from) {
    screen->Print(absl::StrCat("warning: --init_from=", config.init_from,
                               " is not read: the weights are those of ", checkpoint));
  }
}

}  // namespace

absl::StatusOr<RunStart> FindRunStart(const TrainConfig& config,
                                      const nlohmann::ordered_json& identity, Progress* screen,
                                      std::optional<RunDirectory>* directory) {
  std::error_code error;
  if (std::filesystem::exists(config.out, error)) {
    STRAKE_ASSIGN_OR_RETURN(*directory, RunDirectory::Open(config.out));
    if (HoldsRun(config.out)) {
      STRAKE_ASSIGN_OR_RETURN(const RunRecord record, ReadRunRecord(config.out));
      STRAKE_RETURN_IF_ERROR(CheckSameRun(record.identity, identity, "--out=" + config.out));
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const std::string checkpoint, FindCheckpoint(config, *directory));
  if (checkpoint.empty()) return RunStart();
  STRAKE_ASSIGN_OR_RETURN(const RunRecord record, ReadRunRecord(checkpoint));
  STRAKE_RETURN_IF_ERROR(CheckSameRun(record.identity, identity, checkpoint));
  WarnOfChanges(config, record, checkpoint, screen);
  const bool is_in_out = checkpoint == CheckpointPath(config.out, record.step);
  return RunStart{.checkpoint = checkpoint,
                  .step = record.step,
                  .samples = record.samples,
                  .saved_step = is_in_out ? record.step : 0};
}

absl::Status CheckSameOnAllRanks(const Mesh& mesh, const nlohmann::ordered_json& settings) {
  // Paths need not be text in UTF-8.
  const auto text = [](const nlohmann::ordered_json& json) {
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  std::string first = text(settings);
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &first));
  const std::string differences = RunDifferences(nlohmann::ordered_json::parse(first),
                                                 nlohmann::ordered_json::parse(text(settings)));
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("rank ", mesh.rank(), " is to train another run than rank 0: ", differences,
                   "; give all processes the same flags and files"));
}

absl::Status ShareRunStart(const Mesh& mesh, RunStart* start) {
  std::string counts = nlohmann::json({start->step, start->samples, start->saved_step}).dump();
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &counts));
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &start->checkpoint));
  const nlohmann::json shared = nlohmann::json::parse(counts);
  start->step = shared[0];
  start->samples = shared[1];
  start->saved_step = shared[2];
  return absl::OkStatus();
}

absl::Status ClaimDirectory(const std::string& out, std::optional<RunDirectory>* directory) {
  if (directory->has_value()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(*directory, RunDirectory::Open(out));
  if (!HoldsRun(out)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "--out=", out, ": another process began a run there just now; choose another --out"));
}

}  // namespace strake
