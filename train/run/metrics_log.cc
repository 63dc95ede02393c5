#include "train/run/metrics_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/durable_file.h"
#include "core/base/json.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr int64_t kMaxLogBytes = int64_t{4} << 30;  // 20 million steps

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return std::string(text, end);
}

// ",\"targets\":12"; empty where they are all tokens.
std::string TargetsText(int64_t targets, int64_t tokens) {
  return targets == tokens ? "" : absl::StrCat(",\"targets\":", targets);
}

// ",\"sources\":{...}"; empty without sources.
std::string SourcesText(const std::vector<SourceMetrics>& sources) {
  if (sources.empty()) return "";
  const auto add = [](std::string* text, const SourceMetrics& source) {
    absl::StrAppend(text, JsonText(nlohmann::json(source.name)), ":{\"tokens\":", source.tokens,
                    TargetsText(source.targets, source.tokens),
                    ",\"loss\":", JsonNumber(source.loss), "}");
  };
  return absl::StrCat(",\"sources\":{", absl::StrJoin(sources, ",", add), "}");
}

struct Lines {
  std::string kept;        // of steps up to the last
  std::string damaged;     // no lines of a log
  uint64_t last_step = 0;  // of the lines that are kept
};

Lines Sort(absl::string_view text, uint64_t last_step, bool evaluates) {
  Lines lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const bool is_whole = end != text.npos;
    const absl::string_view line = text.substr(0, end);
    text.remove_prefix(is_whole ? end + 1 : text.size());
    const auto json = ParseJson(line, "line");
    const bool is_object = json.ok() && json->is_object() && json->contains("step");
    if (!is_object || !(*json)["step"].is_number_unsigned()) {
      // A run that is killed may leave half a line at the end.
      if (is_whole) absl::StrAppend(&lines.damaged, line, "\n");
      continue;
    }
    const uint64_t step = (*json)["step"];
    const bool of_evaluation = json->contains("val_loss") || json->contains("eval_task");
    if (step > last_step || (evaluates && step == last_step && of_evaluation)) continue;
    absl::StrAppend(&lines.kept, line, "\n");
    lines.last_step = std::max(lines.last_step, step);
  }
  return lines;
}

absl::StatusOr<FileDescriptor> OpenToAppend(const std::string& path) {
  FileDescriptor fd(open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return SystemError("open", path);
  return fd;
}

absl::Status KeepAside(const std::string& path, const std::string& lines) {
  const auto before = ReadFile(path, kMaxLogBytes);
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  return WriteFileDurably(path, (before.ok() ? *before : "") + lines);
}

}  // namespace

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& path, const TrainStart& start) {
  // An error for a symbolic link to nothing.
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  std::string text;
  if (kind != PathKind::kNothing) {
    STRAKE_ASSIGN_OR_RETURN(text, ReadFile(path, kMaxLogBytes));
  }
  if (!text.empty() && !start.held_run) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is there, and is not of this run; move it away"));
  }
  const Lines lines = Sort(text, start.step, start.evaluates);
  std::vector<std::string> notes;
  const std::string aside = path + ".damaged";
  if (!lines.damaged.empty()) {
    STRAKE_RETURN_IF_ERROR(KeepAside(aside, lines.damaged));
    notes.push_back(absl::StrCat(path, " had damaged lines, which are in ", aside, " now"));
  }
  if (start.held_run && lines.last_step < static_cast<uint64_t>(start.step)) {
    notes.push_back(absl::StrCat(path, " ends at step ", lines.last_step,
                                 ", before the checkpoint of step ", start.step));
  }
  STRAKE_RETURN_IF_ERROR(WriteFileDurably(path, lines.kept));
  STRAKE_ASSIGN_OR_RETURN(FileDescriptor fd, OpenToAppend(path));
  return MetricsLog(path, std::move(fd), std::move(notes));
}

MetricsLog::MetricsLog(std::string path, FileDescriptor fd, std::vector<std::string> notes)
    : path_(std::move(path)), notes_(std::move(notes)), fd_(std::move(fd)) {}

absl::Status MetricsLog::LogStep(const StepMetrics& m) {
  return Append(absl::StrCat(
      "{\"step\":", m.step, ",\"loss\":", JsonNumber(m.loss), ",\"lr\":", JsonNumber(m.lr),
      ",\"grad_norm\":", JsonNumber(m.grad_norm), ",\"tokens\":", m.tokens,
      TargetsText(m.targets, m.tokens), ",\"seconds\":", JsonNumber(m.seconds),
      ",\"tokens_per_second\":", JsonNumber(m.tokens_per_second), SourcesText(m.sources), "}\n"));
}

absl::Status MetricsLog::LogEval(const EvalMetrics& m) {
  std::string line = absl::StrCat("{\"step\":", m.step);
  if (!m.name.empty()) absl::StrAppend(&line, ",\"val_data\":", JsonText(nlohmann::json(m.name)));
  absl::StrAppend(&line, ",\"val_loss\":", JsonNumber(m.val_loss));
  if (m.bits_per_byte > 0) {
    absl::StrAppend(&line, ",\"val_bits_per_byte\":", JsonNumber(m.bits_per_byte));
  }
  return Append(line + "}\n");
}

absl::Status MetricsLog::LogTask(const TaskMetrics& m) {
  return Append(
      absl::StrCat("{\"step\":", m.step, ",\"eval_task\":", JsonText(nlohmann::json(m.name)),
                   ",\"acc\":", JsonNumber(m.acc), ",\"acc_norm\":", JsonNumber(m.acc_norm),
                   ",\"examples\":", m.num_examples, "}\n"));
}

absl::Status MetricsLog::Sync() {
  {
    const std::lock_guard<std::mutex> lock(*mutex_);
    STRAKE_RETURN_IF_ERROR(WriteUnwritten());
  }
  // A flush takes its time on a slow disk, so the lock is free meanwhile.
  struct stat info;
  const bool deleted = fstat(fd_.get(), &info) == 0 && info.st_nlink == 0;
  if (!deleted && fsync(fd_.get()) == 0) return absl::OkStatus();
  const absl::Status status = SystemError("flush", path_);
  const std::lock_guard<std::mutex> lock(*mutex_);
  return WriteAnew(status);
}

// Linux takes pages that it could not write for written: a second fsync() would succeed, and the
// lines would be lost. They are still there to be read, and are written to a new file. So are those
// of a file that someone has deleted.
absl::Status MetricsLog::WriteAnew(const absl::Status& reason) {
  const auto text = ReadFile(absl::StrCat("/proc/self/fd/", fd_.get()), kMaxLogBytes);
  if (!text.ok() || !WriteFileDurably(path_, *text).ok()) return reason;
  STRAKE_ASSIGN_OR_RETURN(fd_, OpenToAppend(path_));
  return absl::OkStatus();
}

absl::Status MetricsLog::Append(absl::string_view line) {
  const std::lock_guard<std::mutex> lock(*mutex_);
  absl::StrAppend(&unwritten_, line);
  const absl::Status status = WriteUnwritten();
  return IsErrorOfADisk(status) ? absl::OkStatus() : status;
}

absl::Status MetricsLog::WriteUnwritten() {
  absl::string_view rest = unwritten_;
  const absl::Status status = WriteFrom(fd_.get(), &rest, path_);
  unwritten_.erase(0, unwritten_.size() - rest.size());
  return status;
}

}  // namespace strake
