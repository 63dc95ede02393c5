// FullTensors: assembles the slices that ranks hold, and compares overlapping copies.
#ifndef STRAKE_TESTS_FULL_TENSORS_H_
#define STRAKE_TESTS_FULL_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"

namespace strake::testing {

class FullTensors {
 public:
  struct Entry {
    std::vector<double> values;  // row-major, [in, out]
    int64_t num_columns = 0;
    std::vector<int> num_copies;  // how many ranks added each element
  };

  // `elements` are those of `range` of the index space of a rank's `arena`. Fails the test where an
  // element's bits differ from another rank's copy, or padding is not exactly 0.
  void Add(const ParameterArena& arena, const ShardRange& range,
           const std::vector<double>& elements);

  // By Hugging Face's names.
  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  Entry* Find(const ParameterSegment& segment);

  std::map<std::string, Entry> entries_;
};

// max|a - b| over max|b|; infinity where one is not finite, or all of b is 0. CHECKs equal sizes.
double RelativeError(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_FULL_TENSORS_H_
