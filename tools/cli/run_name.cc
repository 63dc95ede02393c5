#include "tools/cli/run_name.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "train/run/run_directory.h"

namespace strake {
namespace {

std::string NumberedName(const std::string& base, int64_t number) {
  return number == 1 ? base : absl::StrCat(base, "-", number);
}

// The numbers of `base` and of base-2, base-3, ... that exist.
std::set<int64_t> ExistingNumbers(const std::string& base) {
  const std::filesystem::path path(base);
  std::set<int64_t> numbers;
  std::error_code error;
  std::filesystem::directory_iterator entry(
      path.has_parent_path() ? path.parent_path() : std::filesystem::path("."), error);
  for (const std::filesystem::directory_iterator end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    absl::string_view digits = name;
    int64_t number = 1;
    if (!absl::ConsumePrefix(&digits, path.filename().string())) continue;
    const bool is_numbered = absl::ConsumePrefix(&digits, "-") && absl::SimpleAtoi(digits, &number);
    // Not "-02", which is no name of ours.
    if (!digits.empty() && !is_numbered) continue;
    if (name == std::filesystem::path(NumberedName(base, number)).filename()) {
      numbers.insert(number);
    }
  }
  return numbers;
}

// The record of the run in a folder: its own, or that of its last checkpoint. NotFound where there
// is neither.
absl::StatusOr<RunRecord> RecordIn(const std::string& directory,
                                   const std::vector<int64_t>& checkpoints) {
  absl::StatusOr<RunRecord> record = ReadRunRecord(directory);
  if (!absl::IsNotFound(record.status()) || checkpoints.empty()) return record;
  return ReadRunRecord(CheckpointPath(directory, checkpoints.back()));
}

}  // namespace

RunName ChooseRunName(
    const std::string& base, bool new_run,
    absl::FunctionRef<std::string(const std::string& directory, const RunRecord& record)>
        differences) {
  std::string reason;
  const std::set<int64_t> existing = ExistingNumbers(base);
  std::set<int64_t> of_runs;
  for (const int64_t number : existing) {
    const std::string directory = NumberedName(base, number);
    const auto checkpoints = ListCheckpoints(directory);
    const auto record = checkpoints.ok() ? RecordIn(directory, *checkpoints)
                                         : absl::StatusOr<RunRecord>(checkpoints.status());
    if (!record.ok() && !absl::IsNotFound(record.status())) return {directory, reason};
    if (!record.ok()) continue;
    of_runs.insert(number);
    const bool counts = !new_run || checkpoints->empty();
    const std::string different = counts ? differences(directory, *record) : "";
    if (counts && different.empty()) return {directory, reason};
    if (!reason.empty()) continue;
    reason = absl::StrCat(
        directory,
        different.empty() ? " holds one already" : " holds one of other settings: ", different);
  }
  int64_t number = 1;
  while (of_runs.count(number) > 0) ++number;
  return {NumberedName(base, number), reason};
}

}  // namespace strake
