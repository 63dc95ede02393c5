#include "core/memory/parameter_arena.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
Parameter* ParameterArena::Add(std::vector<ParameterSegment> segments, Shape shape,
                               bool weight_decay, NormalInit init) {
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
  num_elements_ = (record.end() + kAlignmentElements - 1) / kAlignmentElements * kAlignmentElements;
  return &record.parameter;
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
