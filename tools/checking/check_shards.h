// Compares the parts of a model's tensors on the ranks with the whole tensors, element by element.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_SHARDS_H_
#define STRAKE_TOOLS_CHECKING_CHECK_SHARDS_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/ops/check/rounding.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "tools/checking/check_line.h"

namespace strake {

// The tensors of a model by Hugging Face's names, in double: its weights, or their gradients.
class WholeTensors {
 public:
  struct Entry {
    std::string name;
    Shape shape;                 // [in, out], or one-dimensional
    std::vector<double> values;  // row-major
    double max_abs = 0;
  };

  // `array` (f64) covers the index space of an arena that holds whole tensors.
  WholeTensors(const ParameterArena& arena, const Tensor& array);
  WholeTensors(WholeTensors&&) = default;

  // In the arena's order.
  const std::deque<Entry>& entries() const { return entries_; }
  int64_t num_elements() const;
  double Norm() const;

  // The scale that an entry's errors are relative to: its largest element. Where the entry is 0, up
  // to f64's rounding, and so has no scale of its own, the largest element of all tensors.
  double ScaleOf(const Entry& entry) const;
  // By entry, the largest difference from another such array, divided by ScaleOf().
  std::vector<double> RelativeErrors(const ParameterArena& arena, const Tensor& array) const;

 private:
  double max_abs_ = 0;
  std::deque<Entry> entries_;
  std::map<std::string, const Entry*> by_name_;
};

// How often elements were compared, and how many copies differ.
struct ShardCoverage {
  int64_t num_elements = 0;     // of the whole tensors
  int64_t num_comparisons = 0;  // over all ranks
  int64_t num_missed = 0;       // elements not compared once per rank that holds them
  int64_t num_different = 0;    // copies whose bits differ from another holder's
  int64_t num_dirty = 0;        // elements of padding that are not exactly 0
};

struct ElementRun;  // of a rank's part of a tensor

class ShardComparison {
 public:
  // `truth` must outlive the comparison. Each element is held by `dp_copies` data-parallel ranks.
  ShardComparison(const WholeTensors* truth, int dp_copies);

  // `array` (f32 or bf16, in host memory) holds the elements `range` of the index space of rank
  // `rank`'s arena.
  void Add(int rank, const ParameterArena& arena, const ShardRange& range, const Tensor& array);

  // One line for each tensor, in the arena's order; tolerances are in the same order.
  std::vector<CheckLine> Lines(const std::string& what,
                               const std::vector<double>& tolerances) const;
  ShardCoverage Coverage() const;

 private:
  struct State {
    const WholeTensors::Entry* truth;
    LargestDifference difference;
    std::vector<float> first;       // the first copy
    std::vector<int16_t> expected;  // copies still expected; kUntouched before the first
  };
  template <typename T>
  void AddElements(int rank, const ParameterArena& arena, const ShardRange& range,
                   const T* elements);
  template <typename T>
  void AddRun(int rank, const ElementRun& run, const T* values);

  const WholeTensors* const truth_;
  const int dp_copies_;
  std::map<std::string, State> states_;
  ShardCoverage coverage_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_SHARDS_H_
