#include "tools/cli/home_path.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

bool BeginsAtHome(absl::string_view path) { return path == "~" || absl::StartsWith(path, "~/"); }

absl::StatusOr<std::string> Home() {
  const char* const home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return std::string(home);
  return absl::FailedPreconditionError(
      "~ is the home directory, and the variable HOME is not set; write the whole path, or ./~ for "
      "a name");
}

// "books:" of "books:~/a"; empty where the entry has no name.
absl::string_view NamePart(absl::string_view entry) {
  const size_t colon = entry.find(':');
  if (colon == absl::string_view::npos) return "";
  const absl::string_view name = entry.substr(0, colon);
  const bool is_name = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '-';
  });
  return is_name ? entry.substr(0, colon + 1) : "";
}

// The end of the entry that `paths` begins with: the first comma without a backslash before it.
size_t EntryEnd(absl::string_view paths) {
  for (size_t i = 0; i < paths.size(); ++i) {
    if (paths[i] == ',' && (i == 0 || paths[i - 1] != '\\')) return i;
  }
  return paths.size();
}

}  // namespace

absl::StatusOr<std::string> ExpandHome(absl::string_view path) {
  if (!BeginsAtHome(path)) return std::string(path);
  STRAKE_ASSIGN_OR_RETURN(const std::string home, Home());
  return absl::StrCat(home, path.substr(1));
}

absl::StatusOr<std::string> ExpandHomeInList(absl::string_view paths) {
  std::string expanded;
  while (!paths.empty()) {
    const size_t end = EntryEnd(paths);
    absl::string_view entry = paths.substr(0, end);
    const absl::string_view name = NamePart(entry);
    absl::StrAppend(&expanded, name);
    entry.remove_prefix(name.size());
    // "~:0.7" is the home directory with a weight.
    if (BeginsAtHome(entry) || absl::StartsWith(entry, "~:")) {
      STRAKE_ASSIGN_OR_RETURN(const std::string home, Home());
      absl::StrAppend(&expanded, absl::StrReplaceAll(home, {{",", "\\,"}}));
      entry.remove_prefix(1);
    }
    absl::StrAppend(&expanded, entry, paths.substr(end, 1));
    paths.remove_prefix(std::min(end + 1, paths.size()));
  }
  return expanded;
}

}  // namespace strake
