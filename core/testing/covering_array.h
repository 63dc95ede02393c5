// Pairwise testing: few rows of parameter values in which every two values occur together.
#ifndef STRAKE_CORE_TESTING_COVERING_ARRAY_H_
#define STRAKE_CORE_TESTING_COVERING_ARRAY_H_

#include <vector>

#include "absl/functional/function_ref.h"

namespace strake::testing {

// Level `level`, counted from 0, of factor `factor`.
struct FactorLevel {
  int factor = 0;
  int level = 0;
  bool operator==(const FactorLevel&) const = default;
};

// Rows of one level per factor, such that every possible pair of levels of two factors occurs in a
// row, and no row has an impossible pair. `possible` is symmetric. The rows depend on the arguments
// alone. CHECKs that rows can be completed: for any levels that are possible together, every other
// factor has a level that is possible with all of them.
// Source: Cohen et al., "The AETG System", IEEE Transactions on Software Engineering 23(7), 1997.
std::vector<std::vector<int>> CoveringArray(
    const std::vector<int>& num_levels,
    absl::FunctionRef<bool(const FactorLevel& a, const FactorLevel& b)> possible);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_COVERING_ARRAY_H_
