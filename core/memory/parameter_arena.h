// ParameterArena: one index space for all parameters of a model.
#ifndef STRAKE_CORE_MEMORY_PARAMETER_ARENA_H_
#define STRAKE_CORE_MEMORY_PARAMETER_ARENA_H_

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"

namespace strake {

// The part of a tensor in Hugging Face's layout that a segment holds, and its other holders. Rows
// and columns are those of our orientation, [in, out]; a one-dimensional tensor has one row.
struct SegmentSlice {
  int64_t full_rows = 0, full_columns = 0;  // of the whole tensor
  int64_t row_begin = 0, column_begin = 0;  // of the slice within it
  int64_t num_rows = 0;                     // the parameter's further rows are padding, always 0
  int num_holders = 1;        // neighbouring tensor-parallel ranks that hold this slice
  bool owner = true;          // the first holder: counts the slice where it counts once
  bool partial_grad = false;  // the gradient is the sum over the holders' gradients
};

// Columns of a parameter's last dimension that hold columns of one tensor in Hugging Face's layout.
// A fused matrix has several segments, side by side.
struct ParameterSegment {
  std::string name;     // Hugging Face's, for example "model.layers.0.self_attn.q_proj.weight"
  int64_t columns = 0;  // of the parameter's last dimension
  // True when Hugging Face stores it [out, in], the transpose of our [in, out].
  bool transposed = false;
  // Add() fills in the slice of a segment that is a whole tensor (full_rows 0).
  SegmentSlice slice = {};
};

// Initial weights: mean + stddev * (standard normal) + bound * (uniform in [-1, 1)).
struct WeightInit {
  double mean = 0;
  double stddev = 0;
  double bound = 0;
};

// A parameter, and what files, other ranks and the optimizer need to know of it.
struct ParameterRecord {
  Parameter parameter;
  std::vector<ParameterSegment> segments;  // their columns add up to the last dimension
  bool weight_decay = false;               // matrices and embeddings, not norms and biases
  WeightInit init;
  int64_t offset = 0;  // in elements, in every array over the index space
  // Gradients are reduced in a bucket without others: other ranks hold a copy elsewhere in their
  // index space, of which they have to update the same parts.
  bool own_bucket = false;

  // The name of the first segment.
  const std::string& name() const { return segments.front().name; }
  const Shape& shape() const { return parameter.shape; }
  int64_t num_elements() const { return NumElements(parameter.shape); }
  // The end of the elements in the index space, without the gap behind them.
  int64_t end() const { return offset + num_elements(); }
};

// A part of an array over an index space: its elements [begin, end()).
struct ArenaPart {
  int64_t begin = 0;
  Tensor values;  // [n]

  int64_t end() const { return begin + values.num_elements(); }
  ShardRange range() const { return {begin, end()}; }
  // The elements of a range of the index space that lies within the part.
  Tensor Rows(const ShardRange& part) const {
    return values.Rows(part.begin - begin, part.end - begin);
  }
};

// Returns the parts of `array` [sum of the ranges' sizes], which holds the ranges' elements one
// after the other.
std::vector<ArenaPart> PartsOf(const std::vector<ShardRange>& ranges, const Tensor& array);

// Parameters are added in forward order, so gradients become ready from the end of the index space
// to its start. Each begins at a multiple of 64 elements; the gaps hold zeros in every array.
// Values, gradients and optimizer state are parallel arrays over the same indices.
class ParameterArena {
 public:
  static constexpr int64_t kAlignmentElements = 64;

  // Must precede Allocate(). The address stays valid for the arena's lifetime.
  Parameter* Add(std::vector<ParameterSegment> segments, Shape shape, bool weight_decay,
                 WeightInit init = {});

  // Starts a part with the next parameter: the gradients of a part are ready together, and others'
  // later or earlier. The first part needs no start. A part may be empty.
  void StartPart();
  // The positions in records() at which parts begin, ascending from 0.
  const std::vector<int>& parts() const { return parts_; }

  // The names of the model's tensors that other arenas hold, and this one does not: those of the
  // other stages of a pipeline. Files have them too.
  void set_elsewhere(std::set<std::string> names) { elsewhere_ = std::move(names); }
  const std::set<std::string>& elsewhere() const { return elsewhere_; }

  // Moves parameters apart, so that each group of consecutive ones fills a multiple of
  // `num_elements`, itself a multiple of 64: the gap behind the group's last parameter grows. The
  // groups begin at these positions in records(), which ascend from 0. Must precede Allocate().
  void PadGroups(const std::vector<int>& first_records, int64_t num_elements);

  // Marks every parameter as frozen; such an arena needs no gradients.
  void Freeze();

  // Allocates zeroed values, and zeroed gradients if asked for; sets each parameter's `value` and
  // `grad`. Returns ResourceExhausted if there is not enough memory.
  absl::Status Allocate(DType dtype, bool with_gradients, Device device = Device::kCpu);

  // Sets parameters with shapes alone, for the dry run: data is null.
  void AllocateDryRun(DType dtype, Device device = Device::kCpu, bool with_gradients = true);

  // Size of the index space, gaps included.
  int64_t num_elements() const { return num_elements_; }
  // The number of trained elements: without gaps and padding.
  int64_t num_parameters() const;

  // Dtype of gradients: f32 for bf16 values, else that of the values. Valid after Allocate().
  DType grad_dtype() const;

  // In the order of Add().
  const std::deque<ParameterRecord>& records() const { return records_; }
  std::deque<ParameterRecord>& records() { return records_; }

  // CHECKs that the parameter is one of this arena's. It looks at every record in turn: for
  // messages and tests.
  const ParameterRecord& RecordOf(const Parameter& parameter) const;

  const Tensor& values() const { return values_; }  // [num_elements]
  const Tensor& grads() const { return grads_; }    // [num_elements]

 private:
  void SetTensors(void* values, void* grads, DType dtype, bool with_gradients, Device device);

  std::deque<ParameterRecord> records_;
  std::vector<int> parts_ = {0};
  std::set<std::string> elsewhere_;
  int64_t num_elements_ = 0;
  DeviceMemory value_memory_, grad_memory_;
  Tensor values_, grads_;
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_PARAMETER_ARENA_H_
