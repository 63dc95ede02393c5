// Tensor: a typed view of memory that it does not own.
#ifndef STRAKE_CORE_TENSOR_TENSOR_H_
#define STRAKE_CORE_TENSOR_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "core/base/dtype.h"

namespace strake {

using Shape = absl::InlinedVector<int64_t, 4>;

// "[2, 3]".
std::string ShapeString(const Shape& shape);

// Product of the sizes; 1 for an empty shape.
int64_t NumElements(const Shape& shape);

enum class Device : uint8_t { kCpu, kCuda };

// Contiguous, row-major, cheap to copy. Like a pointer, a const Tensor does not make its elements
// const: ops take inputs as `const Tensor&` and outputs by value. In the dry run of an arena the
// data is null: shapes are real and nothing is computed.
class Tensor {
 public:
  // Undefined: holds nothing; defined() is false.
  Tensor() = default;
  Tensor(void* data, DType dtype, Shape shape, Device device = Device::kCpu);

  bool defined() const { return defined_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  // Size of dimension `i`; a negative `i` counts from the last.
  int64_t dim(int i) const;
  int64_t num_elements() const { return NumElements(shape_); }
  size_t num_bytes() const { return num_elements() * DTypeSize(dtype_); }

  void* raw() const { return data_; }
  // CHECKs that T is the tensor's type.
  template <typename T>
  T* data() const {
    CheckDType(DTypeOf<T>::value);
    return static_cast<T*>(data_);
  }

  // The same elements in another shape of equal size.
  Tensor Reshape(Shape shape) const;
  // Rows [begin, end) of the first dimension.
  Tensor Rows(int64_t begin, int64_t end) const;

  // "f32[2, 3]".
  std::string ToString() const;

 private:
  void CheckDType(DType dtype) const;

  void* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::kF32;
  Device device_ = Device::kCpu;
  bool defined_ = false;
};

}  // namespace strake

#endif  // STRAKE_CORE_TENSOR_TENSOR_H_
