#include "train/run/run_start.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/json.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "optim/lr_schedule.h"
#include "train/engine/mesh_wide.h"
#include "train/run/manifest.h"
#include "train/run/run_record.h"
#include "train/run/run_settings.h"

namespace strake {
namespace {

// The directory's own record, if it holds a run.
absl::StatusOr<std::optional<RunRecord>> RecordOf(const std::string& directory) {
  absl::StatusOr<RunRecord> record = ReadRunRecord(directory);
  if (record.ok()) return *std::move(record);
  if (absl::IsNotFound(record.status())) return std::nullopt;
  return record.status();
}

using DataLike = absl::FunctionRef<std::string(const std::string&)>;

absl::Status CheckIsThisRun(const RunRecord& record, nlohmann::ordered_json identity,
                            DataLike data_like, const std::string& where,
                            const OptionNames& names) {
  constexpr char kData[] = "train_data";
  const auto data = record.identity.find(kData);
  if (data != record.identity.end() && data->is_string() && *data != identity[kData]) {
    identity[kData] = data_like(*data);
  }
  const absl::Status same = CheckSameRun(record.identity, identity, where);
  if (same.ok()) return same;
  return absl::Status(
      same.code(),
      absl::StrCat(same.message(), ". Use the same settings, or another ", names.directory));
}

// Checks resume_checkpoint, which must not be older than the last one in the directory.
absl::StatusOr<std::string> GivenCheckpoint(const TrainerOptions& options,
                                            const std::optional<int64_t>& latest) {
  const std::string& path = options.resume_checkpoint;
  const OptionNames& names = options.names;
  const auto record = ReadCheckpointRecord(path);
  if (!record.ok()) {
    return absl::Status(
        record.status().code(),
        absl::StrCat(names.resume, "=", path, " is not a checkpoint: ", record.status().message()));
  }
  if (latest.value_or(0) <= record->step) return path;
  return absl::FailedPreconditionError(
      absl::StrCat(names.resume, "=", path, " is at step ", record->step, ", but ",
                   options.directory, " holds a later checkpoint, of step ", *latest,
                   "; choose another ", names.directory, " or remove it"));
}

// The last checkpoint that is whole; adds later ones to `damaged`.
absl::StatusOr<std::string> NewestGood(const TrainerOptions& options, const RunDirectory& directory,
                                       std::vector<int64_t>* damaged) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, directory.Checkpoints());
  const auto good = NewestGoodCheckpoint(options.directory, steps, damaged);
  if (good.has_value()) return *good;
  return absl::DataLossError(absl::StrCat(options.names.resume, "=newest_good, but none of the ",
                                          steps.size(), " checkpoints in ", options.directory,
                                          " is whole"));
}

// The checkpoint to resume from; empty for a new run.
absl::StatusOr<std::string> FindCheckpoint(const TrainerOptions& options,
                                           const std::optional<RunDirectory>& directory,
                                           std::vector<int64_t>* damaged) {
  std::optional<int64_t> latest;
  if (directory.has_value()) {
    STRAKE_ASSIGN_OR_RETURN(latest, directory->LatestCheckpoint());
  }
  if (options.resume == ResumePolicy::kFromCheckpoint) return GivenCheckpoint(options, latest);
  if (!latest.has_value()) return "";
  if (options.resume == ResumePolicy::kNewestGood) return NewestGood(options, *directory, damaged);
  if (options.resume == ResumePolicy::kAuto) return CheckpointPath(options.directory, *latest);
  return absl::FailedPreconditionError(absl::StrCat(
      options.names.resume, "=never, but ", options.directory, " holds checkpoints up to step ",
      *latest, "; choose another ", options.names.directory, " or remove them"));
}

// A run that was killed before its first checkpoint begins anew. One that had a checkpoint does
// not: its disk may be away.
absl::Status CheckHadNoCheckpoint(const TrainerOptions& options,
                                  const std::optional<RunRecord>& run) {
  if (!run.has_value() || run->step == 0) return absl::OkStatus();
  const std::string begun_from = run->config.value("resume", "auto");
  return absl::FailedPreconditionError(absl::StrCat(
      options.directory, "/run.json is of a run at step ", run->step,
      ", but there is no checkpoint in ", options.directory, "; ",
      IsResumePath(begun_from)
          ? absl::StrCat("it began from ", options.names.resume, "=", begun_from, ": give that")
          : absl::StrCat("bring it back, or give another by ", options.names.resume),
      ", or choose another ", options.names.directory));
}

std::vector<std::string> WarningsOfChanges(const TrainerOptions& options, const RunRecord& record,
                                           const RunRecord& now, const std::string& checkpoint) {
  std::vector<std::string> warnings;
  const OptionNames& names = options.names;
  const int64_t steps = options.schedule.total_steps;
  const auto old_steps = record.config.value("steps", nlohmann::ordered_json());
  if (old_steps != steps && options.schedule.kind != ScheduleKind::kConstant) {
    warnings.push_back(absl::StrCat(names.steps, " was ", QuoteJson(old_steps), " and is ", steps,
                                    ": the learning rates of the remaining steps are recomputed"));
  }
  const std::string dtype = DTypeSetting(options.engine.dtype);
  const auto old_dtype = record.config.value("dtype", nlohmann::ordered_json("fp32"));
  if (old_dtype != dtype) {
    warnings.push_back(
        absl::StrCat(names.dtype, " was ", QuoteJson(old_dtype), " and is ", dtype,
                     ": the run resumes from its fp32 weights, in another precision"));
  }
  // The frozen base of adapters is read in any case, and has to be the same.
  const bool lora = options.engine.model.lora.enabled();
  const std::string& begin = lora ? options.init_adapter : options.init_from;
  const auto old_begin =
      record.config.value(lora ? "init_adapter" : "init_from", nlohmann::ordered_json(""));
  if (old_begin != begin) {
    warnings.push_back(absl::StrCat(lora ? names.init_adapter : names.init_from, "=", begin,
                                    " is not read: the weights are those of ", checkpoint));
  }
  if (record.data_time != 0 && now.data_time != 0 && record.data_time != now.data_time) {
    warnings.push_back(absl::StrCat(names.train_files, " was changed or copied since ", checkpoint,
                                    " was saved; samples of its tokens are the same, and ",
                                    names.data_fingerprint,
                                    " can compare all of them from now on"));
  }
  return warnings;
}

// The checkpoint's fingerprint, if the run will hold the same bits: bf16 keeps fp32 weights, but
// checkpoints round fp64 to fp32.
std::string FingerprintToCompare(const TrainerOptions& options, const RunRecord& record) {
  const bool was_f64 = record.config.value("dtype", nlohmann::ordered_json("fp32")) == "fp64";
  return was_f64 || options.engine.dtype == DType::kF64 ? "" : record.fingerprint;
}

std::vector<std::string> Warnings(const TrainerOptions& options, const RunRecord& record,
                                  const RunRecord& now, const std::string& checkpoint,
                                  const std::vector<int64_t>& damaged) {
  std::vector<std::string> warnings = WarningsOfChanges(options, record, now, checkpoint);
  for (const int64_t step : damaged) {
    const std::string path = CheckpointPath(options.directory, step);
    warnings.push_back(absl::StrCat(path, " is damaged, and becomes ", path, ".damaged"));
  }
  return warnings;
}

}  // namespace

std::optional<std::string> NewestGoodCheckpoint(const std::string& directory,
                                                const std::vector<int64_t>& steps,
                                                std::vector<int64_t>* damaged) {
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const std::string path = CheckpointPath(directory, *step);
    if (VerifyCheckpoint(path).ok() && ReadCheckpointRecord(path).ok()) return path;
    if (damaged != nullptr) damaged->push_back(*step);
  }
  return std::nullopt;
}

std::string CheckpointToGoOnWith(const TrainerOptions& options) {
  if (options.resume == ResumePolicy::kFromCheckpoint) return options.resume_checkpoint;
  const auto steps = ListCheckpoints(options.directory);
  if (!steps.ok() || steps->empty()) return "";
  return CheckpointPath(options.directory, steps->back());
}

DataToGoOnWith FindDataToGoOnWith(const TrainerOptions& options) {
  absl::StatusOr<RunRecord> record = options.resume == ResumePolicy::kFromCheckpoint
                                         ? ReadRunRecord(options.resume_checkpoint)
                                         : ReadRunRecord(options.directory);
  const std::string checkpoint = CheckpointToGoOnWith(options);
  if (!record.ok() && !checkpoint.empty()) record = ReadRunRecord(checkpoint);
  DataToGoOnWith data = {.chat_format = options.chat_format};
  if (!record.ok()) return data;
  data.rules = DataRulesOf(record->identity);
  if (data.chat_format.empty()) data.chat_format = ChatFormatOf(record->identity);
  return data;
}

absl::StatusOr<RunStart> FindRunStart(const TrainerOptions& options, const RunRecord& now,
                                      DataLike data_like, std::optional<RunDirectory>* directory) {
  const nlohmann::ordered_json& identity = now.identity;
  const std::string& out = options.directory;
  std::optional<RunRecord> run;
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(out));
  if (kind != PathKind::kNothing) {
    STRAKE_ASSIGN_OR_RETURN(const PathKind manifest, PathKindOf(out + "/manifest.json"));
    if (manifest != PathKind::kNothing) {
      return absl::FailedPreconditionError(absl::StrCat(
          options.names.directory, "=", out, " is a checkpoint; give the folder of its run, or ",
          options.names.resume, "=", out, " and another ", options.names.directory));
    }
    STRAKE_ASSIGN_OR_RETURN(*directory, RunDirectory::Open(out));
    STRAKE_ASSIGN_OR_RETURN(run, RecordOf(out));
    if (run.has_value()) {
      STRAKE_RETURN_IF_ERROR(CheckIsThisRun(*run, identity, data_like,
                                            absl::StrCat(options.names.directory, "=", out),
                                            options.names));
    }
  }
  std::vector<int64_t> damaged;
  STRAKE_ASSIGN_OR_RETURN(const std::string checkpoint,
                          FindCheckpoint(options, *directory, &damaged));
  if (checkpoint.empty()) {
    STRAKE_RETURN_IF_ERROR(CheckHadNoCheckpoint(options, run));
    RunStart start = {.held_run = run.has_value()};
    if (run.has_value()) {
      start.warnings = {absl::StrCat("the run in ", out,
                                     " ended before its first checkpoint, and "
                                     "begins anew")};
    }
    return start;
  }
  STRAKE_ASSIGN_OR_RETURN(const RunRecord record, ReadCheckpointRecord(checkpoint));
  STRAKE_RETURN_IF_ERROR(CheckIsThisRun(record, identity, data_like, checkpoint, options.names));
  const bool is_in_directory = checkpoint == CheckpointPath(out, record.step);
  // The directory knows what was done after the checkpoint was saved.
  const bool is_last = is_in_directory && run.has_value() && run->step == record.step;
  return RunStart{.checkpoint = checkpoint,
                  .step = record.step,
                  .samples = record.samples,
                  .saved_step = is_in_directory ? record.step : 0,
                  .due = is_last ? run->due : record.due,
                  .fingerprint = FingerprintToCompare(options, record),
                  .held_run = run.has_value(),
                  .damaged = damaged,
                  .warnings = Warnings(options, record, now, checkpoint, damaged)};
}

absl::Status CheckSameOnAllRanks(const Mesh& mesh, const nlohmann::ordered_json& settings) {
  // Compared as texts, in which bytes of paths that are not UTF-8 are replaced.
  const std::string own = JsonText(settings);
  std::string first = own;
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &first));
  const std::string differences =
      RunDifferences(*ParseOrderedJson(first, "rank 0"), *ParseOrderedJson(own, "here"));
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "rank ", mesh.rank(), " has the settings of another run than rank 0: ", differences,
      "; give all processes the same options and files"));
}

absl::Status ShareRunStart(const Mesh& mesh, RunStart* start) {
  std::string counts = JsonText(nlohmann::json(
      {start->step, start->samples, start->saved_step, start->due.evaluation, start->due.sample}));
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &counts));
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &start->checkpoint));
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &start->fingerprint));
  const nlohmann::json shared = *ParseJson(counts, "rank 0");
  start->step = shared[0];
  start->samples = shared[1];
  start->saved_step = shared[2];
  start->due = {.evaluation = shared[3], .sample = shared[4]};
  return absl::OkStatus();
}

absl::Status ClaimDirectory(const TrainerOptions& options, std::optional<RunDirectory>* directory) {
  if (directory->has_value()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(*directory, RunDirectory::Open(options.directory));
  STRAKE_ASSIGN_OR_RETURN(const std::optional<RunRecord> run, RecordOf(options.directory));
  if (!run.has_value()) return absl::OkStatus();
  const std::string& name = options.names.directory;
  return absl::FailedPreconditionError(
      absl::StrCat(name, "=", options.directory,
                   ": another process began a run there just now; choose another ", name));
}

}  // namespace strake
