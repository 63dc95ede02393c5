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
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "core/base/durable_file.h"
#include "core/base/path_kind.h"
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

// Whether there is anything of this name, a symbolic link too.
absl::StatusOr<bool> HasName(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT) return false;
  return SystemError("look at", path);
}

std::string ReadHolder(int fd) {
  char text[32];
  const ssize_t n = pread(fd, text, sizeof(text), 0);
  const absl::string_view pid = absl::StripAsciiWhitespace(absl::string_view(text, n > 0 ? n : 0));
  return pid.empty() ? "another process" : absl::StrCat("process ", pid);
}

absl::StatusOr<FileDescriptor> Lock(const std::string& directory, const FileDescriptor& folder) {
  const std::string path = absl::StrCat(directory, "/.lock");
  FileDescriptor fd(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid()) return SystemError("create", path);
  bool locked = flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
  if (!locked && errno != EWOULDBLOCK) return SystemError("lock", path);
  // The folder too, where the file system can: someone may delete the file.
  if (locked) locked = flock(folder.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
  if (!locked) {
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
  STRAKE_ASSIGN_OR_RETURN(const bool replaces, HasName(to));
  if (!replaces) return Rename(from, to);
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL && errno != ENOSYS) return SystemError("replace", to);
  return ReplaceInTwoSteps(from, to);
}

}  // namespace

absl::StatusOr<RunDirectory> RunDirectory::Open(const std::string& path) {
  STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(path));
  FileDescriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return SystemError("open", path);
  STRAKE_ASSIGN_OR_RETURN(FileDescriptor lock, Lock(path, folder));
  RunDirectory directory(path, std::move(folder), std::move(lock));
  STRAKE_RETURN_IF_ERROR(directory.Named(directory.RestoreReplaced()));
  // What cannot be deleted now is tried again by Prune().
  (void)directory.RemoveTemporaries();
  return directory;
}

RunDirectory::RunDirectory(std::string path, FileDescriptor folder, FileDescriptor lock)
    : path_(std::move(path)),
      handle_(absl::StrCat("/proc/self/fd/", folder.get())),
      folder_(std::move(folder)),
      lock_(std::move(lock)) {
  // A system without /proc.
  if (access(handle_.c_str(), F_OK) != 0) handle_ = path_;
}

absl::Status RunDirectory::Named(const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrReplaceAll(status.message(), {{handle_, path_}}));
}

// After a crash of ReplaceInTwoSteps().
absl::Status RunDirectory::RestoreReplaced() {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(handle_));
  for (const std::string& name : names) {
    absl::string_view stem = name;
    if (!absl::ConsumeSuffix(&stem, kReplaced) || !ParseStep(stem)) continue;
    const std::string checkpoint = absl::StrCat(handle_, "/", stem);
    STRAKE_ASSIGN_OR_RETURN(const bool exists, HasName(checkpoint));
    if (!exists) STRAKE_RETURN_IF_ERROR(Rename(absl::StrCat(handle_, "/", name), checkpoint));
  }
  return SyncPath(handle_);
}

absl::Status RunDirectory::RemoveTemporaries() {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(handle_));
  absl::Status first_error;
  for (const std::string& name : names) {
    absl::string_view stem = name;
    const bool temporary =
        absl::ConsumeSuffix(&stem, kTemporary) || absl::ConsumeSuffix(&stem, kReplaced);
    if (temporary && ParseStep(stem)) {
      first_error.Update(RemoveAll(absl::StrCat(handle_, "/", name)));
    }
  }
  first_error.Update(SyncPath(handle_));
  return first_error;
}

std::string CheckpointPath(const std::string& run_directory, int64_t step) {
  return absl::StrCat(run_directory, "/", kPrefix, step);
}

absl::StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& run_directory) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(run_directory));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    const std::optional<int64_t> step = ParseStep(name);
    if (!step.has_value()) continue;
    // Where the system cannot say what this is, it may be the checkpoint to resume from.
    STRAKE_ASSIGN_OR_RETURN(const PathKind kind,
                            PathKindOf(absl::StrCat(run_directory, "/", name)));
    if (kind == PathKind::kDirectory) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::StatusOr<std::string> FindModelFolder(const std::string& path) {
  for (const char* config : {"/config.json", "/adapter_config.json"}) {
    STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path + config));
    if (kind != PathKind::kNothing) return path;
  }
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind != PathKind::kDirectory) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no such directory"));
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(path));
  if (!steps.empty()) return CheckpointPath(path, steps.back());
  return absl::NotFoundError(absl::StrCat(path, ": holds neither a config.json nor a checkpoint"));
}

absl::StatusOr<std::vector<int64_t>> RunDirectory::Checkpoints() const {
  auto steps = ListCheckpoints(handle_);
  if (!steps.ok()) return Named(steps.status());
  return steps;
}

absl::StatusOr<std::optional<int64_t>> RunDirectory::LatestCheckpoint() const {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Checkpoints());
  if (steps.empty()) return std::optional<int64_t>();
  return std::optional<int64_t>(steps.back());
}

absl::Status RunDirectory::WriteCheckpoint(
    int64_t step, absl::FunctionRef<absl::Status(const std::string& directory)> write) {
  CHECK_GE(step, 0) << "[run_directory] checkpoint in " << path_;
  const std::string checkpoint = CheckpointPath(handle_, step), temporary = checkpoint + kTemporary;
  absl::Status status = WriteTemporary(temporary, write);
  if (status.ok()) status = Publish(temporary, checkpoint);
  if (status.ok()) status = SyncPath(handle_);
  // If it cannot be deleted now, Prune() or the next Open() tries again.
  (void)RemoveAll(temporary);
  (void)RemoveAll(checkpoint + kReplaced);
  return Named(status);
}

absl::Status RunDirectory::SetAside(int64_t step) {
  const std::string checkpoint = CheckpointPath(handle_, step);
  const std::string aside = checkpoint + ".damaged";
  absl::Status status = RemoveAll(aside);
  if (status.ok()) status = Rename(checkpoint, aside);
  if (status.ok()) status = SyncPath(handle_);
  return Named(status);
}

absl::Status RunDirectory::Prune(int64_t keep_last) {
  CHECK_GE(keep_last, 0) << "[run_directory] keep_last in " << path_;
  absl::Status first_error = RemoveTemporaries();
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Checkpoints());
  const int64_t num_kept = keep_last == 0 ? steps.size() : keep_last;
  for (int64_t i = 0; i + num_kept < static_cast<int64_t>(steps.size()); ++i) {
    const std::string checkpoint = CheckpointPath(handle_, steps[i]);
    // A crash during the deletion must not leave half of the files under a complete name.
    first_error.Update(Rename(checkpoint, checkpoint + kTemporary));
  }
  const absl::Status renamed = SyncPath(handle_);
  first_error.Update(renamed.ok() ? RemoveTemporaries() : renamed);
  return Named(first_error);
}

}  // namespace strake
