#include "train/run/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/durable_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr char kPrefix[] = "step-";
constexpr char kTemporary[] = ".tmp";
constexpr char kReplaced[] = ".old";

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return SystemError("rename", from);
  return absl::OkStatus();
}

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return SystemError("delete", path, error.value());
  return absl::OkStatus();
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(path, error));
}

std::string ReadHolder(int fd) {
  char text[32];
  const ssize_t n = pread(fd, text, sizeof(text), 0);
  const absl::string_view pid = absl::StripAsciiWhitespace(absl::string_view(text, n > 0 ? n : 0));
  return pid.empty() ? "another process" : absl::StrCat("process ", pid);
}

absl::StatusOr<FileDescriptor> Lock(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/.lock");
  FileDescriptor fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!fd.valid()) return SystemError("create", path);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError("lock", path);
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " is in use: ", ReadHolder(fd.get()), " holds ", path,
                     "; wait until that run has ended, or choose another folder"));
  }
  if (ftruncate(fd.get(), 0) != 0) return SystemError("write to", path);
  STRAKE_RETURN_IF_ERROR(WriteAll(fd.get(), absl::StrCat(getpid(), "\n"), path));
  return fd;
}

absl::StatusOr<std::vector<std::string>> ListNames(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return SystemError("list", directory, error.value());
  return names;
}

// N of "step-N", spelled as CheckpointPath() does.
std::optional<int64_t> ParseStep(absl::string_view name) {
  int64_t step = 0;
  absl::string_view digits = name;
  if (!absl::ConsumePrefix(&digits, kPrefix) || !absl::SimpleAtoi(digits, &step) || step < 0 ||
      name != absl::StrCat(kPrefix, step)) {
    return std::nullopt;
  }
  return step;
}

absl::Status WriteTemporary(const std::string& path,
                            absl::FunctionRef<absl::Status(const std::string&)> write) {
  STRAKE_RETURN_IF_ERROR(RemoveAll(path));
  if (mkdir(path.c_str(), 0777) != 0) return SystemError("create the folder", path);
  STRAKE_RETURN_IF_ERROR(write(path));
  return SyncTree(path);
}

// For file systems that cannot swap two names. After a crash between the two renames there is no
// folder at `to`: RemoveLeftovers() restores the old one.
absl::Status ReplaceInTwoSteps(const std::string& from, const std::string& to) {
  const std::string old = to + kReplaced;
  STRAKE_RETURN_IF_ERROR(RemoveAll(old));
  STRAKE_RETURN_IF_ERROR(Rename(to, old));
  const absl::Status status = Rename(from, to);
  if (!status.ok()) (void)rename(old.c_str(), to.c_str());
  return status;
}

// Renames the complete folder `from` to `to`. An older folder there is then at `from` or TO.old.
absl::Status Publish(const std::string& from, const std::string& to) {
  if (!Exists(to)) return Rename(from, to);
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL && errno != ENOSYS) return SystemError("replace", to);
  return ReplaceInTwoSteps(from, to);
}

}  // namespace

absl::StatusOr<RunDirectory> RunDirectory::Open(const std::string& path) {
  STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(path));
  STRAKE_ASSIGN_OR_RETURN(FileDescriptor lock, Lock(path));
  RunDirectory directory(path, std::move(lock));
  STRAKE_RETURN_IF_ERROR(directory.RemoveLeftovers());
  return directory;
}

RunDirectory::RunDirectory(std::string path, FileDescriptor lock)
    : path_(std::move(path)), lock_(std::move(lock)) {}

absl::Status RunDirectory::RemoveLeftovers() {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(path_));
  for (const std::string& name : names) {
    absl::string_view stem = name;
    const bool temporary = absl::ConsumeSuffix(&stem, kTemporary);
    const bool replaced = !temporary && absl::ConsumeSuffix(&stem, kReplaced);
    if ((!temporary && !replaced) || !ParseStep(stem)) continue;
    const std::string leftover = absl::StrCat(path_, "/", name);
    const std::string checkpoint = absl::StrCat(path_, "/", stem);
    const bool put_back = replaced && !Exists(checkpoint);
    STRAKE_RETURN_IF_ERROR(put_back ? Rename(leftover, checkpoint) : RemoveAll(leftover));
  }
  return SyncPath(path_);
}

std::string CheckpointPath(const std::string& run_directory, int64_t step) {
  return absl::StrCat(run_directory, "/", kPrefix, step);
}

absl::StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& run_directory) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(run_directory));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    const std::optional<int64_t> step = ParseStep(name);
    std::error_code error;
    if (step && std::filesystem::is_directory(absl::StrCat(run_directory, "/", name), error)) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::StatusOr<std::vector<int64_t>> RunDirectory::Checkpoints() const {
  return ListCheckpoints(path_);
}

absl::StatusOr<std::optional<int64_t>> RunDirectory::LatestCheckpoint() const {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Checkpoints());
  if (steps.empty()) return std::optional<int64_t>();
  return std::optional<int64_t>(steps.back());
}

absl::Status RunDirectory::WriteCheckpoint(
    int64_t step, absl::FunctionRef<absl::Status(const std::string& directory)> write) {
  CHECK_GE(step, 0) << "[run_directory] checkpoint in " << path_;
  const std::string checkpoint = CheckpointPath(path_, step), temporary = checkpoint + kTemporary;
  absl::Status status = WriteTemporary(temporary, write);
  if (status.ok()) status = Publish(temporary, checkpoint);
  if (status.ok()) status = SyncPath(path_);
  // If it cannot be deleted now, the next Open() deletes it or reports it.
  (void)RemoveAll(temporary);
  (void)RemoveAll(checkpoint + kReplaced);
  return status;
}

absl::Status RunDirectory::Prune(int64_t keep_last) {
  CHECK_GE(keep_last, 0) << "[run_directory] keep_last in " << path_;
  if (keep_last == 0) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Checkpoints());
  const int64_t num_steps = static_cast<int64_t>(steps.size());
  for (int64_t i = 0; i < num_steps - keep_last; ++i) {
    const std::string checkpoint = CheckpointPath(path_, steps[i]),
                      temporary = checkpoint + kTemporary;
    // A crash during the deletion must not leave half of the files under a complete name.
    STRAKE_RETURN_IF_ERROR(RemoveAll(temporary));
    STRAKE_RETURN_IF_ERROR(Rename(checkpoint, temporary));
    STRAKE_RETURN_IF_ERROR(SyncPath(path_));
    STRAKE_RETURN_IF_ERROR(RemoveAll(temporary));
  }
  return absl::OkStatus();
}

}  // namespace strake
