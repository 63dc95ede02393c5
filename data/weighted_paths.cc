#include "data/weighted_paths.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/data_paths.h"

namespace strake {
namespace {

bool IsPath(absl::string_view entry, PathExists exists) { return exists(PathOfEntry(entry)); }

// Takes a weight from the entry's end; returns whether there is one.
bool TakeWeight(absl::string_view* entry, double* weight, PathExists exists) {
  const size_t colon = entry->rfind(':');
  if (colon == entry->npos || !absl::SimpleAtod(entry->substr(colon + 1), weight)) return false;
  if (IsPath(*entry, exists)) return false;
  *entry = entry->substr(0, colon);
  return true;
}

absl::Status NoWeight(absl::string_view paths) {
  return absl::InvalidArgumentError(absl::StrCat(
      paths, " has no weight, and other sources have; end each in one, as in a.txt:0.7,b.txt:0.3"));
}

absl::Status AddSource(WeightedPaths source, std::vector<WeightedPaths>* sources) {
  if (source.paths.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the source of weight ", source.weight,
                                                   source.name.empty() ? "" : ", " + source.name,
                                                   ", has no paths"));
  }
  if (source.name.empty()) source.name = source.paths;
  for (const WeightedPaths& other : *sources) {
    if (other.name != source.name) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "two sources are called ", source.name,
        "; give each a name of its own, as in other:", source.paths, ":", source.weight));
  }
  sources->push_back(std::move(source));
  return absl::OkStatus();
}

}  // namespace

absl::string_view NameOfEntry(absl::string_view entry, PathExists exists) {
  const size_t colon = entry.find(':');
  const absl::string_view name = entry.substr(0, colon);
  const bool is_name =
      colon != entry.npos && !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_isalnum(c) || c == '_' || c == '-';
      });
  return is_name && !IsPath(entry, exists) ? name : absl::string_view();
}

absl::StatusOr<std::vector<WeightedPaths>> ParseWeightedPaths(absl::string_view list,
                                                              PathExists exists) {
  std::vector<WeightedPaths> sources;
  if (exists(std::string(list))) return sources;
  const std::vector<absl::string_view> entries = EntriesOfPaths(list);
  const auto has_weight = [&](absl::string_view entry) {
    double weight = 0;
    return TakeWeight(&entry, &weight, exists);
  };
  if (std::none_of(entries.begin(), entries.end(), has_weight)) return sources;
  WeightedPaths source;
  bool is_open = false;  // the source has an entry already
  for (absl::string_view entry : entries) {
    const bool is_last = TakeWeight(&entry, &source.weight, exists);
    const absl::string_view name = NameOfEntry(entry, exists);
    if (!name.empty()) {
      if (is_open) return NoWeight(source.paths);
      source.name = std::string(name);
      entry.remove_prefix(name.size() + 1);
    }
    absl::StrAppend(&source.paths, is_open ? "," : "", entry);
    is_open = !is_last;
    if (!is_last) continue;
    STRAKE_RETURN_IF_ERROR(AddSource(std::exchange(source, {}), &sources));
  }
  if (is_open) return NoWeight(source.paths);
  return sources;
}

}  // namespace strake
