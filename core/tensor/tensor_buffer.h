// TensorBuffer: memory owned by one tensor.
#ifndef STRAKE_CORE_TENSOR_TENSOR_BUFFER_H_
#define STRAKE_CORE_TENSOR_TENSOR_BUFFER_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "core/tensor/tensor.h"

namespace strake {

// Alignment of every tensor that Strake allocates: a cache line, and the widest vector.
inline constexpr size_t kTensorAlignment = 64;

// Zeroed, page-aligned host memory, freed on destruction.
class HostMemory {
 public:
  HostMemory() = default;
  // Returns ResourceExhausted, naming the size, if the system does not have that much memory.
  static absl::StatusOr<HostMemory> Allocate(size_t num_bytes);

  void* data() const { return data_.get(); }
  size_t num_bytes() const { return data_.get_deleter().num_bytes; }

 private:
  struct Unmap {
    Unmap() : num_bytes(0) {}
    explicit Unmap(size_t mapped) : num_bytes(mapped) {}
    void operator()(void* data) const;
    size_t num_bytes;
  };
  std::unique_ptr<void, Unmap> data_;
};

// A zeroed tensor that owns its memory. Arenas (core/memory) are for large or long-lived groups of
// tensors. CHECKs that there is memory.
class TensorBuffer {
 public:
  TensorBuffer() = default;
  TensorBuffer(DType dtype, Shape shape);

  const Tensor& tensor() const { return tensor_; }
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)

 private:
  HostMemory memory_;
  Tensor tensor_;
};

}  // namespace strake

#endif  // STRAKE_CORE_TENSOR_TENSOR_BUFFER_H_
