#include "core/testing/covering_array.h"

#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace strake::testing {
namespace {

// Factors 0 and 1 only with equal levels; level 0 of factor 2 never with level 1 of factor 3.
bool Possible(const FactorLevel& a, const FactorLevel& b) {
  if (a.factor > b.factor) return Possible(b, a);
  if (a.factor == 0 && b.factor == 1) return a.level == b.level;
  return a != FactorLevel{2, 0} || b != FactorLevel{3, 1};
}

TEST(CoveringArrayTest, EveryPossiblePairAndNoOther) {
  const std::vector<int> num_levels = {3, 3, 2, 4, 5};
  const auto rows = CoveringArray(num_levels, Possible);
  for (int a = 0; a < 5; ++a) {
    for (int b = a + 1; b < 5; ++b) {
      std::set<std::pair<int, int>> expected, actual;
      for (int i = 0; i < num_levels[a]; ++i) {
        for (int j = 0; j < num_levels[b]; ++j) {
          if (Possible({a, i}, {b, j})) expected.insert({i, j});
        }
      }
      for (const std::vector<int>& row : rows) actual.insert({row[a], row[b]});
      EXPECT_EQ(actual, expected) << a << ", " << b;
    }
  }
  // Two factors alone need 20.
  EXPECT_LE(rows.size(), 26u);
  EXPECT_EQ(CoveringArray(num_levels, Possible), rows);
}

TEST(CoveringArrayDeathTest, AFactorWithNoPossibleLevel) {
  const auto never_one_and_two = [](const FactorLevel& a, const FactorLevel& b) {
    return a.factor + b.factor != 3;
  };
  EXPECT_DEATH(CoveringArray({2, 2, 2}, never_one_and_two), "no level of factor");
}

}  // namespace
}  // namespace strake::testing
