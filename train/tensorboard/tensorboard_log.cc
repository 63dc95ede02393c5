#include "train/tensorboard/tensorboard_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/durable_file.h"
#include "core/base/file_descriptor.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/time_of_day.h"
#include "core/base/write_all.h"
#include "train/tensorboard/tensorboard_record.h"

namespace strake {
namespace {

constexpr int64_t kMaxLogBytes = int64_t{4} << 30;  // 15 million steps

// TensorBoard puts the charts of one prefix side by side.
constexpr char kTrain[] = "train/", kSources[] = "sources/", kValidation[] = "validation/",
               kTasks[] = "tasks/", kSample[] = "sample";

TensorBoardEvent EventAt(int64_t step) { return {.wall_time = TimeOfDay(), .step = step}; }

std::string RecordOf(const TensorBoardEvent& event) {
  std::string record;
  AppendTensorBoardRecord(EncodeTensorBoardEvent(event), &record);
  return record;
}

std::string FirstRecord() {
  TensorBoardEvent event = EventAt(0);
  event.file_version = kTensorBoardVersion;
  return RecordOf(event);
}

void Add(absl::string_view tag, double value, TensorBoardEvent* event) {
  event->values.push_back({.tag = std::string(tag), .scalar = static_cast<float>(value)});
}

// A block of code in Markdown, which keeps lines and spaces as they are.
std::string CodeBlock(const std::string& text) {
  return absl::StrCat("    ", absl::StrReplaceAll(text, {{"\n", "\n    "}}));
}

bool HasTagOf(const TensorBoardEvent& event, absl::string_view prefix) {
  return std::any_of(event.values.begin(), event.values.end(), [&](const TensorBoardValue& value) {
    return absl::StartsWith(value.tag, prefix);
  });
}

// Whether the run that starts goes on after the event.
bool IsBefore(const TrainStart& start, const TensorBoardEvent& event) {
  if (event.step != start.step) return event.step < start.step;
  const bool of_evaluation = HasTagOf(event, kValidation) || HasTagOf(event, kTasks);
  return !(start.evaluates && of_evaluation) && !(start.makes_sample && HasTagOf(event, kSample));
}

struct Records {
  std::string kept;     // of events before the start
  std::string damaged;  // no events
  bool has_version = false;
  int64_t last_step = 0;  // of the events that are kept
};

Records Sort(absl::string_view file, const TrainStart& start) {
  Records records;
  while (!file.empty()) {
    const absl::string_view before = file;
    const auto data = TakeTensorBoardRecord(&file);
    // A run that is killed may leave half a record at the end.
    if (absl::IsOutOfRange(data.status())) break;
    // Nothing tells where the next record is.
    if (file.size() == before.size()) file = {};
    const absl::string_view record = before.substr(0, before.size() - file.size());
    const auto event = data.ok() ? ParseTensorBoardEvent(*data) : data.status();
    if (!event.ok()) {
      absl::StrAppend(&records.damaged, record);
      continue;
    }
    if (!IsBefore(start, *event)) continue;
    if (records.kept.empty()) records.has_version = !event->file_version.empty();
    absl::StrAppend(&records.kept, record);
    records.last_step = std::max(records.last_step, event->step);
  }
  return records;
}

// Whether there is more than FirstRecord(), which a run may have left that ended before its
// directory held it.
bool HasContents(absl::string_view file) {
  if (file.empty()) return false;
  const auto data = TakeTensorBoardRecord(&file);
  const auto event = data.ok() ? ParseTensorBoardEvent(*data) : data.status();
  return !file.empty() || !event.ok() || !event->values.empty();
}

absl::Status Truncate(const std::string& path, size_t num_bytes) {
  const FileDescriptor fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return SystemError("open", path);
  if (ftruncate(fd.get(), num_bytes) != 0) return SystemError("cut", path);
  if (fsync(fd.get()) != 0) return SystemError("flush", path);
  return absl::OkStatus();
}

// A TensorBoard that shows the run holds the file open, so what is only longer than it should be
// is cut, and stays the same file.
absl::Status MakeBe(const std::string& path, absl::string_view before, absl::string_view after) {
  // A crash may have left it, and TensorBoard would read it.
  (void)unlink((path + ".tmp").c_str());
  if (after.empty() || !absl::StartsWith(before, after)) return WriteFileDurably(path, after);
  return before.size() == after.size() ? absl::OkStatus() : Truncate(path, after.size());
}

absl::Status CheckIsNoLink(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_symlink(folder, error)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(folder, " is a symbolic link, which is not written through; move it away"));
}

absl::StatusOr<std::string> ReadIfThere(const std::string& path) {
  // An error for a symbolic link to nothing.
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind == PathKind::kNothing) return "";
  return ReadFile(path, kMaxLogBytes);
}

}  // namespace

absl::StatusOr<std::vector<TensorBoardEvent>> ReadTensorBoardEvents(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMaxLogBytes));
  std::vector<TensorBoardEvent> events;
  for (absl::string_view rest = file; !rest.empty();) {
    const auto data = TakeTensorBoardRecord(&rest);
    const auto event = data.ok() ? ParseTensorBoardEvent(*data) : data.status();
    if (!event.ok()) {
      return absl::Status(event.status().code(), absl::StrCat(path, ": record ", events.size() + 1,
                                                              ": ", event.status().message()));
    }
    events.push_back(*event);
  }
  return events;
}

absl::Status TensorBoardLog::CheckIsFree(const std::string& folder) {
  STRAKE_RETURN_IF_ERROR(CheckIsNoLink(folder));
  const std::string path = absl::StrCat(folder, "/", kFileName);
  STRAKE_ASSIGN_OR_RETURN(const std::string contents, ReadIfThere(path));
  if (!HasContents(contents)) return absl::OkStatus();
  return NotOfThisRun(path);
}

absl::StatusOr<TensorBoardLog> TensorBoardLog::Open(const std::string& folder,
                                                    const TrainStart& start) {
  STRAKE_RETURN_IF_ERROR(start.held_run ? CheckIsNoLink(folder) : CheckIsFree(folder));
  STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(folder));
  const std::string path = absl::StrCat(folder, "/", kFileName);
  STRAKE_ASSIGN_OR_RETURN(const std::string before, ReadIfThere(path));
  Records records = Sort(before, start);
  std::vector<std::string> notes;
  if (!records.damaged.empty()) {
    const std::string aside = folder + "/damaged-records";
    STRAKE_RETURN_IF_ERROR(KeepDamaged(aside, records.damaged, kMaxLogBytes));
    notes.push_back(absl::StrCat(path, " had damaged records, which are in ", aside, " now"));
  }
  if (start.held_run && records.last_step < start.step) {
    notes.push_back(absl::StrCat(path, " ends at step ", records.last_step,
                                 ", before the checkpoint of step ", start.step));
  }
  if (!records.has_version) records.kept.insert(0, FirstRecord());
  STRAKE_RETURN_IF_ERROR(MakeBe(path, before, records.kept));
  STRAKE_ASSIGN_OR_RETURN(AppendedFile file, AppendedFile::Open(path, kMaxLogBytes));
  return TensorBoardLog(std::move(file), std::move(notes));
}

TensorBoardLog::TensorBoardLog(AppendedFile file, std::vector<std::string> notes)
    : file_(std::move(file)), notes_(std::move(notes)) {}

absl::Status TensorBoardLog::LogStep(const StepMetrics& m) {
  TensorBoardEvent event = EventAt(m.step);
  const auto add = [&](absl::string_view name, double value) {
    Add(absl::StrCat(kTrain, name), value, &event);
  };
  add("loss", m.loss);
  add("learning_rate", m.lr);
  add("grad_norm", m.grad_norm);
  add("tokens", m.tokens);
  if (m.targets != m.tokens) add("targets", m.targets);
  add("seconds", m.seconds);
  add("tokens_per_second", m.tokens_per_second);
  add("epoch", m.epoch);
  if (m.mfu != 0) add("mfu", m.mfu);
  for (const SourceMetrics& source : m.sources) {
    const std::string prefix = absl::StrCat(kSources, source.name, "/");
    Add(prefix + "loss", source.loss, &event);
    Add(prefix + "tokens", source.tokens, &event);
    if (source.targets != source.tokens) Add(prefix + "targets", source.targets, &event);
  }
  return Append(event);
}

absl::Status TensorBoardLog::LogEval(const EvalMetrics& m) {
  const std::string prefix = absl::StrCat(kValidation, m.name, m.name.empty() ? "" : "/");
  TensorBoardEvent event = EventAt(m.step);
  Add(prefix + "loss", m.val_loss, &event);
  if (m.bits_per_byte > 0) Add(prefix + "bits_per_byte", m.bits_per_byte, &event);
  return Append(event);
}

absl::Status TensorBoardLog::LogTask(const TaskMetrics& m) {
  const std::string prefix = absl::StrCat(kTasks, m.name, "/");
  TensorBoardEvent event = EventAt(m.step);
  Add(prefix + "acc", m.acc, &event);
  Add(prefix + "acc_norm", m.acc_norm, &event);
  Add(prefix + "examples", m.num_examples, &event);
  return Append(event);
}

absl::Status TensorBoardLog::LogSample(const TrainSample& sample) {
  TensorBoardEvent event = EventAt(sample.step);
  event.values = {
      {.tag = kSample,
       .text = absl::StrCat("**prompt**\n\n", CodeBlock(sample.prompt), "\n\n**continuation**\n\n",
                            CodeBlock(sample.continuation))}};
  return Append(event);
}

absl::Status TensorBoardLog::Append(const TensorBoardEvent& event) {
  return file_.Append(RecordOf(event));
}

}  // namespace strake
