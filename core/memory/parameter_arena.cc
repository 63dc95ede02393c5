#include "core/memory/parameter_arena.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

std::vector<ArenaPart> PartsOf(const std::vector<ShardRange>& ranges, const Tensor& array) {
  std::vector<ArenaPart> parts;
  int64_t at = 0;
  for (const ShardRange& range : ranges) {
    parts.push_back({range.begin, array.Rows(at, at + range.size())});
    at += range.size();
  }
  CHECK_EQ(at, array.num_elements()) << "[parts_of] elements of the ranges, and of the array";
  return parts;
}

Parameter* ParameterArena::Add(std::vector<ParameterSegment> segments, Shape shape,
                               bool weight_decay, WeightInit init) {
  CHECK(!values_.defined()) << "[parameter_arena] Add() after Allocate()";
  CHECK(!segments.empty() && !shape.empty()) << "[parameter_arena] nameless or without a shape";
  int64_t columns = 0;
  for (ParameterSegment& segment : segments) {
    columns += segment.columns;
    SegmentSlice& slice = segment.slice;
    if (slice.full_rows > 0) continue;
    slice.full_rows = slice.num_rows = shape.size() == 1 ? 1 : shape[0];
    slice.full_columns = segment.columns;
  }
  CHECK_EQ(columns, shape.back()) << "[parameter_arena] columns of the segments of "
                                  << segments.front().name << " " << ShapeString(shape);
  ParameterRecord& record = records_.emplace_back();
  record.parameter.shape = std::move(shape);
  record.segments = std::move(segments);
  record.weight_decay = weight_decay;
  record.init = init;
  record.offset = num_elements_;
  num_elements_ = RoundUp(record.end(), kAlignmentElements);
  return &record.parameter;
}

void ParameterArena::StartPart() { parts_.push_back(static_cast<int>(records_.size())); }

void ParameterArena::PadGroups(const std::vector<int>& first_records, int64_t num_elements) {
  CHECK(!values_.defined()) << "[parameter_arena] PadGroups() after Allocate()";
  CHECK(num_elements > 0 && num_elements % kAlignmentElements == 0)
      << "[parameter_arena] groups of multiples of " << num_elements << " elements";
  auto next_group = first_records.begin();
  num_elements_ = 0;
  for (int i = 0; i < static_cast<int>(records_.size()); ++i) {
    if (next_group != first_records.end() && *next_group == i) {
      num_elements_ = RoundUp(num_elements_, num_elements);
      ++next_group;
    }
    records_[i].offset = num_elements_;
    num_elements_ = RoundUp(records_[i].end(), kAlignmentElements);
  }
  CHECK(next_group == first_records.end()) << "[parameter_arena] groups that begin past the end";
  num_elements_ = RoundUp(num_elements_, num_elements);
}

void ParameterArena::Freeze() {
  for (ParameterRecord& record : records_) record.parameter.frozen = true;
}

absl::Status ParameterArena::Allocate(DType dtype, bool with_gradients, Device device) {
  STRAKE_ASSIGN_OR_RETURN(value_memory_,
                          DeviceMemory::Allocate(device, num_elements_ * DTypeSize(dtype)));
  if (with_gradients) {
    STRAKE_ASSIGN_OR_RETURN(
        grad_memory_,
        DeviceMemory::Allocate(device, num_elements_ * DTypeSize(AccumulationDType(dtype))));
  }
  SetTensors(value_memory_.data(), grad_memory_.data(), dtype, with_gradients, device);
  return absl::OkStatus();
}

void ParameterArena::AllocateDryRun(DType dtype, Device device, bool with_gradients) {
  SetTensors(nullptr, nullptr, dtype, with_gradients, device);
}

void ParameterArena::SetTensors(void* values, void* grads, DType dtype, bool with_gradients,
                                Device device) {
  const auto at = [device](void* base, const ParameterRecord& record, DType type) {
    char* data = static_cast<char*>(base);
    if (data != nullptr) data += record.offset * DTypeSize(type);
    return Tensor(data, type, record.shape(), device);
  };
  const DType grad_dtype = AccumulationDType(dtype);
  values_ = Tensor(values, dtype, {num_elements_}, device);
  if (with_gradients) grads_ = Tensor(grads, grad_dtype, {num_elements_}, device);
  for (ParameterRecord& record : records_) {
    record.parameter.value = at(values, record, dtype);
    if (with_gradients) record.parameter.grad = at(grads, record, grad_dtype);
  }
}

DType ParameterArena::grad_dtype() const { return AccumulationDType(values_.dtype()); }

int64_t ParameterArena::num_parameters() const {
  int64_t n = 0;
  for (const ParameterRecord& record : records_) {
    for (const ParameterSegment& segment : record.segments) {
      n += segment.slice.num_rows * segment.columns;
    }
  }
  return n;
}

const ParameterRecord& ParameterArena::RecordOf(const Parameter& parameter) const {
  const auto found =
      std::find_if(records_.begin(), records_.end(),
                   [&](const ParameterRecord& record) { return &record.parameter == &parameter; });
  CHECK(found != records_.end()) << "[parameter_arena] a parameter " << ShapeString(parameter.shape)
                                 << " of another arena";
  return *found;
}

}  // namespace strake
