#include "core/tensor/tensor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace strake {

std::string ShapeString(const Shape& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

int64_t NumElements(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

Tensor::Tensor(void* data, DType dtype, Shape shape, Device device)
    : data_(data), shape_(std::move(shape)), dtype_(dtype), device_(device), defined_(true) {
  for (const int64_t size : shape_) {
    CHECK_GE(size, 0) << "[tensor] negative size in " << ShapeString(shape_);
  }
}

int64_t Tensor::dim(int i) const {
  const int index = i < 0 ? i + rank() : i;
  CHECK(index >= 0 && index < rank()) << "[tensor] no dimension " << i << " in " << ToString();
  return shape_[index];
}

Tensor Tensor::Reshape(Shape shape) const {
  CHECK_EQ(NumElements(shape), num_elements())
      << "[tensor] Reshape of " << ToString() << " to " << ShapeString(shape);
  return Tensor(data_, dtype_, std::move(shape), device_);
}

Tensor Tensor::Rows(int64_t begin, int64_t end) const {
  CHECK(rank() > 0 && 0 <= begin && begin <= end && end <= shape_[0])
      << "[tensor] Rows(" << begin << ", " << end << ") of " << ToString();
  Shape shape = shape_;
  shape[0] = 1;
  const size_t row_bytes = NumElements(shape) * DTypeSize(dtype_);
  shape[0] = end - begin;
  char* data = data_ == nullptr ? nullptr : static_cast<char*>(data_) + begin * row_bytes;
  return Tensor(data, dtype_, std::move(shape), device_);
}

std::string Tensor::ToString() const {
  return defined_ ? absl::StrCat(DTypeName(dtype_), ShapeString(shape_)) : "undefined";
}

void Tensor::CheckDType(DType dtype) const {
  CHECK(defined_ && dtype_ == dtype)
      << "[tensor] " << ToString() << " read as " << DTypeName(dtype);
}

}  // namespace strake
