#include "train/run/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/durable_file.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return std::string(text, end);
}

bool IsLineUpTo(absl::string_view line, uint64_t last_step) {
  const auto json = ParseJson(line, "line");
  if (!json.ok() || !json->is_object() || !json->contains("step")) return false;
  const nlohmann::json& step = (*json)["step"];
  return step.is_number_unsigned() && step.get<uint64_t>() <= last_step;
}

std::string LinesUpTo(absl::string_view text, int64_t last_step) {
  std::string kept;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (IsLineUpTo(line, last_step)) absl::StrAppend(&kept, line, "\n");
  }
  return kept;
}

}  // namespace

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& path, int64_t resume_step) {
  std::string kept;
  if (resume_step > 0) {
    const auto text = ReadFile(path);
    if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
    if (text.ok()) kept = LinesUpTo(*text, resume_step);
  }
  STRAKE_RETURN_IF_ERROR(WriteFileDurably(path, kept));
  FileDescriptor fd(open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!fd.valid()) return SystemError("open", path);
  return MetricsLog(path, std::move(fd));
}

MetricsLog::MetricsLog(std::string path, FileDescriptor fd)
    : path_(std::move(path)), fd_(std::move(fd)) {}

absl::Status MetricsLog::LogStep(const StepMetrics& m) {
  return Append(absl::StrCat("{\"step\":", m.step, ",\"loss\":", JsonNumber(m.loss), ",\"lr\":",
                             JsonNumber(m.lr), ",\"grad_norm\":", JsonNumber(m.grad_norm),
                             ",\"tokens\":", m.tokens, ",\"seconds\":", JsonNumber(m.seconds),
                             ",\"tokens_per_second\":", JsonNumber(m.tokens_per_second), "}\n"));
}

absl::Status MetricsLog::LogEval(const EvalMetrics& m) {
  return Append(
      absl::StrCat("{\"step\":", m.step, ",\"val_loss\":", JsonNumber(m.val_loss), "}\n"));
}

absl::Status MetricsLog::Sync() {
  if (fsync(fd_.get()) != 0) return SystemError("flush", path_);
  return absl::OkStatus();
}

absl::Status MetricsLog::Append(absl::string_view line) { return WriteAll(fd_.get(), line, path_); }

}  // namespace strake
