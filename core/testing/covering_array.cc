#include "core/testing/covering_array.h"

#include <deque>
#include <set>
#include <tuple>
#include <utility>

#include "glog/logging.h"

namespace strake::testing {
namespace {

using Possible = absl::FunctionRef<bool(const FactorLevel& a, const FactorLevel& b)>;
using Row = std::vector<int>;

constexpr int kOpen = -1;  // a factor of a row without a level yet

// Pairs that are not yet in a row, the smaller factor first.
class OpenPairs {
 public:
  OpenPairs(const std::vector<int>& num_levels, Possible possible) {
    const int num_factors = static_cast<int>(num_levels.size());
    for (int a = 0; a < num_factors; ++a) {
      for (int b = a + 1; b < num_factors; ++b) {
        for (int i = 0; i < num_levels[a]; ++i) {
          for (int j = 0; j < num_levels[b]; ++j) {
            if (possible({a, i}, {b, j})) pairs_.insert({a, i, b, j});
          }
        }
      }
    }
  }

  bool empty() const { return pairs_.empty(); }

  Row RowWithFirst(size_t num_factors) const {
    const auto& [a, i, b, j] = *pairs_.begin();
    Row row(num_factors, kOpen);
    row[a] = i;
    row[b] = j;
    return row;
  }

  // The number of open pairs that `level` makes with the row's levels.
  int CountWith(const Row& row, const FactorLevel& level) const {
    int count = 0;
    for (int f = 0; f < static_cast<int>(row.size()); ++f) {
      if (row[f] != kOpen && f != level.factor) count += pairs_.count(Pair({f, row[f]}, level));
    }
    return count;
  }

  void Remove(const Row& row) {
    for (int a = 0; a < static_cast<int>(row.size()); ++a) {
      for (int b = a + 1; b < static_cast<int>(row.size()); ++b) {
        pairs_.erase({a, row[a], b, row[b]});
      }
    }
  }

 private:
  using Key = std::tuple<int, int, int, int>;
  static Key Pair(const FactorLevel& a, const FactorLevel& b) {
    if (a.factor > b.factor) return Pair(b, a);
    return {a.factor, a.level, b.factor, b.level};
  }

  std::set<Key> pairs_;
};

bool PossibleWithRow(const Row& row, const FactorLevel& level, Possible possible) {
  for (int f = 0; f < static_cast<int>(row.size()); ++f) {
    if (row[f] != kOpen && !possible({f, row[f]}, level)) return false;
  }
  return true;
}

// The possible level that makes the most new pairs; ties are broken in turn, so that rows differ.
int BestLevel(const Row& row, int factor, int num_levels, int first, const OpenPairs& open,
              Possible possible) {
  int best = kOpen, most = -1;
  for (int i = 0; i < num_levels; ++i) {
    const FactorLevel level = {factor, (first + i) % num_levels};
    if (!PossibleWithRow(row, level, possible)) continue;
    const int count = open.CountWith(row, level);
    if (count > most) {
      best = level.level;
      most = count;
    }
  }
  CHECK_NE(best, kOpen) << "[covering_array] no level of factor " << factor
                        << " is possible with the row's others";
  return best;
}

}  // namespace

std::vector<std::vector<int>> CoveringArray(const std::vector<int>& num_levels, Possible possible) {
  OpenPairs open(num_levels, possible);
  std::vector<Row> rows;
  while (!open.empty()) {
    Row row = open.RowWithFirst(num_levels.size());
    for (int f = 0; f < static_cast<int>(row.size()); ++f) {
      if (row[f] != kOpen) continue;
      row[f] = BestLevel(row, f, num_levels[f], static_cast<int>(rows.size()), open, possible);
    }
    open.Remove(row);
    rows.push_back(row);
  }
  return rows;
}

}  // namespace strake::testing
