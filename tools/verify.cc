// Compares checkpoints with their manifests: `bazel run //tools:verify -- runs/a`.

#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/path_kind.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/work_state.h"
#include "tools/cli/program.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "train/run/manifest.h"
#include "train/run/run_directory.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

constexpr char kHelp[] = R"(Usage: verify [--quiet] DIRECTORY...

Reads checkpoints, and compares every byte with the checksums of manifest.json, without loading
anything. A directory is a checkpoint, or a run, whose checkpoints are all read.

Prints a line for each checkpoint that is whole, and on stderr one for each that is not. Exits with 1
if there is one. While it reads, it shows on stderr how far it is; not so with --quiet.
)";

// The checkpoints that an argument stands for.
absl::StatusOr<std::vector<std::string>> CheckpointsAt(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const PathKind manifest, PathKindOf(path + "/manifest.json"));
  if (manifest != PathKind::kNothing) return std::vector<std::string>{path};
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind != PathKind::kDirectory) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no such directory"));
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(path));
  std::vector<std::string> checkpoints;
  for (const int64_t step : steps) checkpoints.push_back(CheckpointPath(path, step));
  if (!checkpoints.empty()) return checkpoints;
  return absl::NotFoundError(
      absl::StrCat(path, ": holds neither a manifest.json nor a checkpoint"));
}

absl::Status Verify(const std::string& checkpoint, const OnWork& on_work) {
  STRAKE_RETURN_IF_ERROR(VerifyCheckpoint(checkpoint, /*reader=*/0, /*num_readers=*/1,
                                          RenameWork("reading " + Printable(checkpoint), on_work)));
  return ReadCheckpointRecord(checkpoint).status();
}

absl::StatusOr<bool> VerifyAll(int argc, char** argv) {
  std::vector<std::string> checkpoints;
  bool quiet = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::cout << kHelp;
      STRAKE_RETURN_IF_ERROR(FlushStdout());
      return true;
    }
    if (argument == "--quiet") {
      quiet = true;
      continue;
    }
    if (absl::StartsWith(argument, "-")) {
      return absl::InvalidArgumentError(absl::StrCat(
          "unknown flag ", argument, "; verify takes directories, --quiet and --help"));
    }
    STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> found, CheckpointsAt(argument));
    checkpoints.insert(checkpoints.end(), found.begin(), found.end());
  }
  if (checkpoints.empty()) {
    return absl::InvalidArgumentError("no directory to verify; name a checkpoint or a run");
  }
  bool all_whole = true;
  WorkScreen screen(STDERR_FILENO, quiet);
  for (const std::string& checkpoint : checkpoints) {
    const absl::Status status = Verify(checkpoint, screen->Teller());
    screen->EndWork();
    if (status.ok()) std::cout << checkpoint << ": whole" << std::endl;
    if (!status.ok()) PrintError(status);
    all_whole = all_whole && status.ok();
  }
  STRAKE_RETURN_IF_ERROR(FlushStdout());
  return all_whole;
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::PrepareProcess();
  if (strake::HasVersionFlag(argc, argv)) return strake::PrintVersion();
  strake::ChangeToUserDirectory();
  const absl::StatusOr<bool> all_whole = strake::VerifyAll(argc, argv);
  if (!all_whole.ok()) return strake::ExitCode(all_whole.status());
  return *all_whole ? 0 : 1;
}
