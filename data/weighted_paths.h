// Lists of data files with weights, as users write them.
//
//   books:a/**,b.txt:0.7,code/**:0.3
//
// A list is one or more sources, separated by commas, each [name:]paths:weight. The paths are a
// list for ExpandPaths(), a name is of letters, digits, _ and -, and a weight is a number. An entry
// loses its weight, after the last colon, before its name, before the first: books:0.7 is the path
// books with a weight. An entry that is itself the path of something has neither. In a glob, [:] is
// a colon that ends no name and begins no weight.
#ifndef STRAKE_DATA_WEIGHTED_PATHS_H_
#define STRAKE_DATA_WEIGHTED_PATHS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

struct WeightedPaths {
  std::string name = {};   // the paths where none was given
  std::string paths = {};  // for ExpandPaths()
  double weight = 0;
};

// Whether there is something at a path.
using PathExists = absl::FunctionRef<bool(const std::string&)>;

// The sources of a list; none where no entry has a weight, or where the whole list is the path of
// something: then it is a list for ExpandPaths() itself. An error, which names the entry, for a
// source without weight or paths, and for two of one name. Any number is a weight here, and so are
// inf and nan, which Blend refuses.
absl::StatusOr<std::vector<WeightedPaths>> ParseWeightedPaths(absl::string_view list,
                                                              PathExists exists);

// The name that an entry begins with, "books" of "books:a.txt"; empty where there is none.
absl::string_view NameOfEntry(absl::string_view entry, PathExists exists);

}  // namespace strake

#endif  // STRAKE_DATA_WEIGHTED_PATHS_H_
