#include "train/run/run_saver.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/fingerprint.h"
#include "core/base/format_quantity.h"
#include "core/base/monotonic_seconds.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "train/engine/mesh_wide.h"
#include "train/plan/memory_plan.h"
#include "train/run/manifest.h"

namespace strake {
namespace {

// A share of some 3 % of a core that a thread of a step uses.
constexpr int kLowPriority = 15;

// A thread of its own, if the system gives one.
constexpr std::launch kBesideSteps = std::launch::async | std::launch::deferred;

}  // namespace

RunSaver::RunSaver(const TrainerOptions& options, const Mesh& mesh, Engine& engine,
                   const std::vector<TrainObserver*>& observers)
    : options_(options), mesh_(mesh), engine_(engine), observers_(observers) {}

RunSaver::~RunSaver() {
  if (writing_.valid()) writing_.wait();
}

namespace {

// For PEFT, which may be started in another folder.
std::string BaseModelOf(const TrainerOptions& options) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(options.init_from, error);
  return error ? options.init_from : path.lexically_normal().string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunSaver>> RunSaver::Create(
    const TrainerOptions& options, const Mesh& mesh, Engine& engine,
    const std::vector<TrainObserver*>& observers) {
  std::unique_ptr<RunSaver> saver(new RunSaver(options, mesh, engine, observers));
  if (mesh.rank() == 0 && options.async_save) {
    auto snapshot = CheckpointSnapshot::Create(engine);
    if (snapshot.ok()) {
      saver->snapshot_ = *std::move(snapshot);
    } else {
      STRAKE_RETURN_IF_ERROR(
          saver->Warn(absl::StrCat("saves stop the run: ", snapshot.status().message())));
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const bool has_snapshot, AnyRank(mesh, saver->snapshot_.has_value()));
  if (has_snapshot) saver->snapshot_bytes_ = SnapshotBytes(engine.options());
  return saver;
}

absl::Status RunSaver::SetDirectory(RunDirectory directory, CarriedFiles carried,
                                    const RunRecord& record) {
  directory_ = std::move(directory);
  files_ = {.carried = std::move(carried),
            .base_model = BaseModelOf(options_),
            .max_weights_file_bytes = options_.max_weights_file_bytes};
  STRAKE_RETURN_IF_ERROR(WriteRecord(record));
  // A run that was killed may not have come to it.
  const absl::Status pruned = directory_->Prune(options_.keep_last);
  return pruned.ok() ? pruned : WarnOfPruning(pruned);
}

absl::Status RunSaver::Warn(const std::string& text) const {
  return TellAll(observers_, [&](TrainObserver& o) { return o.OnWarning(text); });
}

absl::Status RunSaver::TellOfWaiting(bool waits) {
  waits_ = waits;
  return TellWork(observers_, {.what = waits ? kWritingCheckpoint : ""});
}

// Observers hear of the thread that writes only while the one that runs the steps waits.
OnWork RunSaver::TellerWhereRanksWait() const {
  return [this](const WorkState& work) {
    if (waits_) (void)TellWork(observers_, work);
  };
}

absl::Status RunSaver::WarnOfPruning(const absl::Status& error) const {
  return Warn(
      absl::StrCat(error.message(), "; the run goes on, and tries it again after the next save"));
}

double RunSaver::SecondsBetweenSaves() const {
  constexpr double kSeconds = 10, kTimes = 60;
  return std::min(kSeconds, options_.save_retry_seconds / kTimes);
}

absl::StatusOr<bool> RunSaver::TimeToSave(bool on_schedule) const {
  if (!failed_ || saving_.has_value()) return on_schedule;
  return AnyRank(mesh_, is_first_rank() && MonotonicSeconds() >= next_save_);
}

std::string RunSaver::LastCheckpoint() const {
  int64_t step = saved_.step;
  if (writing_.valid() && saving_.has_value() && writing_.get().status.ok()) step = saving_->step;
  if (step > 0) {
    return absl::StrCat("The last checkpoint is ", CheckpointPath(options_.directory, step));
  }
  return saving_.has_value() && !is_first_rank()
             ? absl::StrCat("A checkpoint of step ", saving_->step, " was being written")
             : "There is no checkpoint yet";
}

// --- Files. ---

// The directory's own record: its last checkpoint, and what is due after it.
absl::Status RunSaver::WriteRecord(const RunRecord& record) const {
  return directory_->Named(WriteFileDurably(directory_->handle() + "/run.json", ToJson(record)));
}

absl::Status RunSaver::ReadBackAndPrune() {
  // One that will be the only one is read back first.
  if (options_.keep_last == 1) {
    STRAKE_RETURN_IF_ERROR(
        directory_->Named(VerifyCheckpoint(CheckpointPath(directory_->handle(), saving_->step))));
  }
  return directory_->Prune(options_.keep_last);
}

RunSaver::Written RunSaver::WriteFiles(absl::FunctionRef<absl::Status(const std::string&)> write) {
  const int64_t step = saving_->step;
  absl::Status status = TellAll(observers_, [&](TrainObserver& o) { return o.OnSave(step); });
  if (status.ok()) status = directory_->WriteCheckpoint(step, write);
  if (status.ok()) status = WriteRecord(*saving_);
  return {status, status.ok() ? ReadBackAndPrune() : absl::OkStatus()};
}

absl::Status RunSaver::WriteNote(const RunRecord& record) const {
  STRAKE_RETURN_IF_ERROR(
      TellAll(observers_, [&](TrainObserver& o) { return o.OnSave(record.step); }));
  return WriteRecord(record);
}

// The ranks gather what the first rank writes.
absl::StatusOr<RunSaver::Written> RunSaver::WriteWithAllRanks() {
  bool gathered = false;
  const auto write = [&](const std::string& directory) {
    gathered = true;
    return WriteCheckpoint(directory, engine_, *saving_, files_, TellerWhereRanksWait());
  };
  Written written;
  if (is_first_rank()) written = WriteFiles(write);
  // The other ranks send their parts in any case.
  if (!gathered) STRAKE_RETURN_IF_ERROR(write(/*directory=*/""));
  return written;
}

// --- A save. ---

// Waits for what is being written. The ranks meet meanwhile, or they would take the first one for
// lost after a timeout.
absl::Status RunSaver::Wait() {
  if (!saving_.has_value()) return EndNote();
  const std::chrono::milliseconds timeout = mesh_.communicator(MeshAxis::kDp).options().timeout;
  STRAKE_RETURN_IF_ERROR(TellOfWaiting(true));
  for (bool written = false; !written;) {
    const bool ready = is_first_rank() && IsWritten(timeout / 4);
    STRAKE_ASSIGN_OR_RETURN(written, AnyRank(mesh_, ready));
  }
  STRAKE_RETURN_IF_ERROR(TellOfWaiting(false));
  return End(is_first_rank() ? writing_.get() : Written());
}

// Waits that long at most.
bool RunSaver::IsWritten(std::chrono::milliseconds time) const {
  // Deferred: the system had no thread left, and the caller of get() writes.
  return writing_.wait_for(time) != std::future_status::timeout;
}

absl::Status RunSaver::SetSaving(const RunRecord& record) {
  STRAKE_RETURN_IF_ERROR(Wait());
  saving_ = record;
  STRAKE_ASSIGN_OR_RETURN(const Fingerprint fingerprint, engine_.StateFingerprint());
  saving_->fingerprint = fingerprint.ToString();
  return absl::OkStatus();
}

absl::Status RunSaver::SaveAndWait(const RunRecord& record) {
  STRAKE_RETURN_IF_ERROR(SetSaving(record));
  STRAKE_RETURN_IF_ERROR(TellOfWaiting(true));
  STRAKE_ASSIGN_OR_RETURN(const Written written, WriteWithAllRanks());
  STRAKE_RETURN_IF_ERROR(TellOfWaiting(false));
  return End(written);
}

absl::Status RunSaver::Save(const RunRecord& record) {
  if (snapshot_bytes_ == 0) return SaveAndWait(record);
  STRAKE_RETURN_IF_ERROR(SetSaving(record));
  if (!is_first_rank()) return WriteCheckpoint(/*directory=*/"", engine_, record);
  STRAKE_RETURN_IF_ERROR(snapshot_->Take(engine_));
  const auto own_thread = std::this_thread::get_id();
  writing_ = std::async(kBesideSteps, [this, own_thread, profile = profile_] {
    // The calling thread's alone, on Linux: steps go first where cores are few.
    if (std::this_thread::get_id() != own_thread) (void)setpriority(PRIO_PROCESS, 0, kLowPriority);
    const ProfileSpan span(profile, {.category = "io", .name = "write checkpoint"});
    return WriteFiles([this](const std::string& directory) {
      return snapshot_->Write(directory, *saving_, files_, TellerWhereRanksWait());
    });
  });
  return absl::OkStatus();
}

// The first rank's `written` counts.
absl::Status RunSaver::End(const Written& written) {
  const absl::Status& status = written.status;
  if (!status.ok() && !IsErrorOfADisk(status)) return status;
  STRAKE_ASSIGN_OR_RETURN(failed_, AnyRank(mesh_, !status.ok()));
  const int64_t step = saving_->step;
  if (!failed_) saved_ = *std::move(saving_);
  saving_.reset();
  writing_ = {};
  if (!is_first_rank()) return absl::OkStatus();
  if (failed_) return TellOfFailure(step, status);
  failing_since_.reset();
  return TellOfCheckpoint(written.pruned);
}

absl::Status RunSaver::EndIfWritten(int64_t step, const DueWork& due) {
  if (!saving_.has_value()) return absl::OkStatus();
  const bool ready = is_first_rank() && IsWritten(std::chrono::milliseconds(0));
  STRAKE_ASSIGN_OR_RETURN(const bool written, AnyRank(mesh_, ready));
  if (!written) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(Wait());
  // What was due at an earlier step is done.
  return Note(saved_.step, step == saved_.step ? due : DueWork());
}

// Others may make room on the disk meanwhile.
absl::Status RunSaver::TellOfFailure(int64_t step, const absl::Status& status) {
  const double now = MonotonicSeconds();
  if (!failing_since_.has_value()) failing_since_ = now;
  next_save_ = now + SecondsBetweenSaves();
  const double left = *failing_since_ + options_.save_retry_seconds - now;
  const std::string what = absl::StrCat("step ", step, " is not saved: ", status.message());
  if (left <= 0) return absl::Status(status.code(), absl::StrCat(what, ". ", LastCheckpoint()));
  return Warn(absl::StrCat(what, "; the run goes on, and tries again for ", FormatDuration(left)));
}

absl::Status RunSaver::TellOfCheckpoint(const absl::Status& pruned) const {
  const TrainCheckpoint checkpoint = {.step = saved_.step,
                                      .path = CheckpointPath(options_.directory, saved_.step),
                                      .fingerprint = saved_.fingerprint};
  STRAKE_RETURN_IF_ERROR(
      TellAll(observers_, [&](TrainObserver& o) { return o.OnCheckpoint(checkpoint); }));
  return pruned.ok() ? pruned : WarnOfPruning(pruned);
}

absl::Status RunSaver::Finish(const RunRecord& record) {
  STRAKE_RETURN_IF_ERROR(Wait());
  while (saved_.step != record.step) {
    if (failed_) {
      std::this_thread::sleep_for(std::chrono::duration<double>(SecondsBetweenSaves()));
    }
    // The steps have ended: nothing goes on beside the save.
    STRAKE_RETURN_IF_ERROR(SaveAndWait(record));
  }
  STRAKE_RETURN_IF_ERROR(Note(record.step, record.due));
  return EndNote();
}

// --- A note. ---

absl::Status RunSaver::Note(int64_t step, const DueWork& due) {
  if (!is_first_rank() || saving_.has_value() || step != saved_.step) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(EndNote());
  if (due == saved_.due) return absl::OkStatus();
  noting_ = due;
  RunRecord record = saved_;
  record.due = due;
  const auto launch = snapshot_bytes_ > 0 ? kBesideSteps : std::launch::deferred;
  writing_ = std::async(
      launch, [this, record = std::move(record)] { return Written{.status = WriteNote(record)}; });
  return snapshot_bytes_ > 0 ? absl::OkStatus() : EndNote();
}

absl::Status RunSaver::EndNote() {
  if (!noting_.has_value()) return absl::OkStatus();
  const absl::Status status = writing_.get().status;
  writing_ = {};
  if (status.ok()) saved_.due = *noting_;
  noting_.reset();
  if (status.ok() || !IsErrorOfADisk(status)) return status;
  // The checkpoint is there; a run that resumes from it would only do this work again.
  return Warn(absl::StrCat("step ", saved_.step, ": ", status.message(), "; the run goes on"));
}

}  // namespace strake
