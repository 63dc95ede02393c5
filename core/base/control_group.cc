#include "core/base/control_group.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace strake {
namespace {

constexpr char kVersion2[] = "";  // stands for all controllers

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> Words(const std::string& path) {
  std::string word;
  std::vector<std::string> words;
  std::ifstream file(path);
  while (file >> word) words.push_back(word);
  return words;
}

// The number after the word `key`, or the first of the file where that is empty.
std::optional<int64_t> Number(const std::string& path, absl::string_view key = "") {
  const std::vector<std::string> words = Words(path);
  auto it = words.begin();
  if (!key.empty()) it = std::find(words.begin(), words.end(), key);
  if (!key.empty() && it != words.end()) ++it;
  int64_t number;
  if (it == words.end() || !absl::SimpleAtoi(*it, &number)) return std::nullopt;
  return number;
}

bool Lists(absl::string_view names, absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(names, ',');
  return std::find(parts.begin(), parts.end(), name) != parts.end();
}

// The process's group in the hierarchy of a controller: a line "4:cpu,cpuacct:/a/b", or "0::/a/b".
std::optional<std::string> GroupPath(const std::string& root, absl::string_view controller) {
  for (const std::string& line : Lines(root + "/proc/self/cgroup")) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool found = controller == kVersion2 ? parts[1].empty() : Lists(parts[1], controller);
    if (found) return parts[2];
  }
  return std::nullopt;
}

struct Mount {
  std::string group;   // what is mounted
  std::string folder;  // where
};

// Finds a line "ID PARENT MAJOR:MINOR GROUP FOLDER OPTIONS ... - TYPE SOURCE CONTROLLERS".
std::optional<Mount> FindMount(const std::string& root, absl::string_view controller) {
  for (const std::string& line : Lines(root + "/proc/self/mountinfo")) {
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<std::string> place = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> kind = absl::StrSplit(halves[1], ' ');
    if (place.size() < 5 || kind.size() < 3) continue;
    const bool found = controller == kVersion2 ? kind[0] == "cgroup2"
                                               : kind[0] == "cgroup" && Lists(kind[2], controller);
    if (found) return Mount{place[3], place[4]};
  }
  return std::nullopt;
}

// The folders of the process's group and of those above it, as far as they are mounted.
std::vector<std::string> GroupFolders(const std::string& root, absl::string_view controller) {
  const auto group = GroupPath(root, controller);
  const auto mount = FindMount(root, controller);
  if (!group.has_value() || !mount.has_value()) return {};
  const std::string top = root + mount->folder;
  std::vector<std::string> folders = {top};
  absl::string_view below = *group;
  // A container may see its own group as the top, under a name that only its host knows.
  if (mount->group != "/" && !absl::ConsumePrefix(&below, mount->group)) return folders;
  std::string folder = top;
  for (const absl::string_view part : absl::StrSplit(below, '/', absl::SkipEmpty())) {
    if (part == "..") break;
    absl::StrAppend(&folder, "/", part);
    folders.push_back(folder);
  }
  return folders;
}

std::optional<size_t> FreeBytes(std::optional<int64_t> limit, std::optional<int64_t> used,
                                std::optional<int64_t> inactive_file) {
  if (!limit.has_value() || !used.has_value()) return std::nullopt;
  const int64_t needed = std::max<int64_t>(0, *used - inactive_file.value_or(0));
  return static_cast<size_t>(std::max<int64_t>(0, *limit - needed));
}

std::optional<size_t> FreeMemory2(const std::string& folder) {
  return FreeBytes(Number(folder + "/memory.max"), Number(folder + "/memory.current"),
                   Number(folder + "/memory.stat", "inactive_file"));
}

std::optional<size_t> FreeMemory1(const std::string& folder) {
  return FreeBytes(Number(folder + "/memory.limit_in_bytes"),
                   Number(folder + "/memory.usage_in_bytes"),
                   Number(folder + "/memory.stat", "total_inactive_file"));
}

std::optional<double> Cores(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (quota.value_or(-1) <= 0 || period.value_or(0) <= 0) return std::nullopt;
  return double(*quota) / double(*period);
}

// "QUOTA PERIOD" or "max PERIOD".
std::optional<double> Cores2(const std::string& folder) {
  const std::vector<std::string> words = Words(folder + "/cpu.max");
  int64_t quota, period;
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &quota) ||
      !absl::SimpleAtoi(words[1], &period)) {
    return std::nullopt;
  }
  return Cores(quota, period);
}

std::optional<double> Cores1(const std::string& folder) {
  return Cores(Number(folder + "/cpu.cfs_quota_us"), Number(folder + "/cpu.cfs_period_us"));
}

template <typename T>
void Tighten(const std::vector<std::string>& folders,
             const std::function<std::optional<T>(const std::string& folder)>& read,
             std::optional<T>* least) {
  for (const std::string& folder : folders) {
    const std::optional<T> limit = read(folder);
    if (limit.has_value()) *least = std::min(*limit, least->value_or(*limit));
  }
}

}  // namespace

ControlGroupLimits ReadControlGroupLimits(const std::string& root) {
  ControlGroupLimits limits;
  const std::vector<std::string> folders = GroupFolders(root, kVersion2);
  Tighten<size_t>(folders, FreeMemory2, &limits.free_memory_bytes);
  Tighten<double>(folders, Cores2, &limits.num_cores);
  Tighten<size_t>(GroupFolders(root, "memory"), FreeMemory1, &limits.free_memory_bytes);
  Tighten<double>(GroupFolders(root, "cpu"), Cores1, &limits.num_cores);
  return limits;
}

}  // namespace strake
