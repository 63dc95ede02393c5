// Lists of data files, as users write them.
#ifndef STRAKE_DATA_DATA_PATHS_H_
#define STRAKE_DATA_DATA_PATHS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Expands a comma-separated list to files, in the order of the list. An entry is
//
//   a file, or "-"     itself, whatever characters it contains
//   a folder           the files below it whose names end like those of text or tokens (.txt, .md,
//                      .text, .jsonl, .ndjson, each also with .gz or .zst; .bin), sorted
//   a glob             the files that match, sorted: * ? [] within a name, ** for any number of
//                      folders
//
// "\," is a comma of a name; a list that is itself a file needs none. Names that begin with "." are
// left out unless they are written. An entry that is empty or matches nothing is an error that
// names it.
absl::StatusOr<std::vector<std::string>> ExpandPaths(absl::string_view paths);

// The entries of such a list as they are written, and what one names: "\," is a comma.
std::vector<absl::string_view> EntriesOfPaths(absl::string_view paths);
std::string PathOfEntry(absl::string_view entry);

}  // namespace strake

#endif  // STRAKE_DATA_DATA_PATHS_H_
