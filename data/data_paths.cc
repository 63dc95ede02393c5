#include "data/data_paths.h"

#include <fnmatch.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

bool IsOfText(absl::string_view path) {
  static constexpr const char* kEnds[] = {".txt", ".text", ".md", ".jsonl", ".ndjson"};
  if (absl::EndsWith(path, ".bin")) return true;
  const std::string lower = absl::AsciiStrToLower(path);
  absl::string_view name = lower;
  if (!absl::ConsumeSuffix(&name, ".gz")) absl::ConsumeSuffix(&name, ".zst");
  return std::any_of(std::begin(kEnds), std::end(kEnds),
                     [&](const char* end) { return absl::EndsWith(name, end); });
}

// The names in a folder that do not begin with ".".
absl::StatusOr<std::vector<fs::directory_entry>> Entries(const std::string& folder) {
  std::vector<fs::directory_entry> entries;
  std::error_code error;
  fs::directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (!absl::StartsWith(entry->path().filename().string(), ".")) entries.push_back(*entry);
  }
  if (error) return SystemError("list", folder, error.value());
  return entries;
}

// Links to folders are not followed: they may lead back.
bool IsOwnFolder(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.is_directory(error) && !entry.is_symlink(error);
}

absl::Status AddFilesBelow(const std::string& folder, std::vector<std::string>* files) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<fs::directory_entry> entries, Entries(folder));
  for (const fs::directory_entry& entry : entries) {
    const std::string path = entry.path().string();
    std::error_code error;
    if (IsOwnFolder(entry)) {
      STRAKE_RETURN_IF_ERROR(AddFilesBelow(path, files));
    } else if (entry.is_regular_file(error) && IsOfText(path)) {
      files->push_back(path);
    }
  }
  return absl::OkStatus();
}

std::string Join(const std::string& folder, const std::string& name) {
  if (folder.empty()) return name;
  return absl::EndsWith(folder, "/") ? folder + name : absl::StrCat(folder, "/", name);
}

// Adds the files that match the parts of a path below `folder`; "" is the current one.
absl::Status AddMatches(const std::string& folder, absl::Span<const std::string> parts,
                        std::vector<std::string>* files) {
  const std::string& part = parts[0];
  const bool is_last = parts.size() == 1;
  if (part == "**" && !is_last) {
    STRAKE_RETURN_IF_ERROR(AddMatches(folder, parts.subspan(1), files));
  }
  const bool literal = part.find_first_of("*?[") == part.npos;
  if (literal) {
    const std::string path = Join(folder, part);
    std::error_code error;
    if (is_last && fs::is_regular_file(path, error)) files->push_back(path);
    if (!is_last && fs::is_directory(path, error)) {
      return AddMatches(path, parts.subspan(1), files);
    }
    return absl::OkStatus();
  }
  std::error_code error;
  if (!fs::is_directory(folder.empty() ? "." : folder, error)) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const auto entries, Entries(folder.empty() ? "." : folder));
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string(), path = Join(folder, name);
    if (part == "**") {
      if (IsOwnFolder(entry)) STRAKE_RETURN_IF_ERROR(AddMatches(path, parts, files));
      if (is_last && entry.is_regular_file(error)) files->push_back(path);
    } else if (fnmatch(part.c_str(), name.c_str(), FNM_PERIOD) == 0) {
      if (is_last && entry.is_regular_file(error)) files->push_back(path);
      if (!is_last && entry.is_directory(error)) {
        STRAKE_RETURN_IF_ERROR(AddMatches(path, parts.subspan(1), files));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RecursiveGlob(const std::string& pattern) {
  const bool absolute = absl::StartsWith(pattern, "/");
  const std::vector<std::string> parts = absl::StrSplit(pattern, '/', absl::SkipEmpty());
  std::vector<std::string> files;
  STRAKE_RETURN_IF_ERROR(AddMatches(absolute ? "/" : "", parts, &files));
  return files;
}

std::vector<std::string> PlainGlob(const std::string& pattern) {
  glob_t matches;
  // Sorted below: glob() itself sorts by the locale.
  const int error = glob(pattern.c_str(), GLOB_NOSORT, nullptr, &matches);
  std::vector<std::string> paths;
  for (size_t i = 0; error == 0 && i < matches.gl_pathc; ++i) {
    std::error_code no_file;
    if (fs::is_regular_file(matches.gl_pathv[i], no_file)) paths.push_back(matches.gl_pathv[i]);
  }
  globfree(&matches);
  return paths;
}

absl::StatusOr<std::vector<std::string>> ExpandEntry(const std::string& entry) {
  // An existing path is taken literally, whatever characters it contains.
  struct stat info;
  const bool exists = stat(entry.c_str(), &info) == 0;
  if (entry == "-" || (exists && !S_ISDIR(info.st_mode))) return std::vector<std::string>{entry};
  std::vector<std::string> paths;
  if (exists) {
    STRAKE_RETURN_IF_ERROR(AddFilesBelow(entry, &paths));
  } else if (absl::StrContains(entry, "**")) {
    STRAKE_ASSIGN_OR_RETURN(paths, RecursiveGlob(entry));
  } else {
    paths = PlainGlob(entry);
  }
  if (paths.empty()) {
    return absl::NotFoundError(absl::StrCat(
        "data file ", entry,
        exists ? ": is a directory without files of text or tokens (*.txt, *.md, *.jsonl, these "
                 "with .gz or .zst, *.bin); name files or a glob"
               : ": no such file, and no file matches it as a glob; check the path"));
  }
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

}  // namespace

std::vector<absl::string_view> EntriesOfPaths(absl::string_view paths) {
  std::vector<absl::string_view> entries;
  size_t begin = 0;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (paths[i] != ',' || (i > 0 && paths[i - 1] == '\\')) continue;
    entries.push_back(paths.substr(begin, i - begin));
    begin = i + 1;
  }
  entries.push_back(paths.substr(begin));
  return entries;
}

std::string PathOfEntry(absl::string_view entry) {
  return absl::StrReplaceAll(entry, {{"\\,", ","}});
}

absl::StatusOr<std::vector<std::string>> ExpandPaths(absl::string_view paths) {
  const std::string whole(paths);
  struct stat info;
  if (stat(whole.c_str(), &info) == 0) return ExpandEntry(whole);
  const std::vector<absl::string_view> entries = EntriesOfPaths(paths);
  if (std::count(entries.begin(), entries.end(), "") > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "list of data files \"", paths, "\": an entry is empty; separate paths by one comma"));
  }
  std::vector<std::string> files;
  for (const absl::string_view entry : entries) {
    STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> matches,
                            ExpandEntry(PathOfEntry(entry)));
    files.insert(files.end(), matches.begin(), matches.end());
  }
  return files;
}

}  // namespace strake
