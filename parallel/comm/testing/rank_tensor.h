// Tensors for tests that run on either device, on the ranks of a communicator. On a GPU all work is
// enqueued on the rank's stream and never waited for, which exposes a collective that is not
// ordered after that stream.
#ifndef STRAKE_PARALLEL_COMM_TESTING_RANK_TENSOR_H_
#define STRAKE_PARALLEL_COMM_TESTING_RANK_TENSOR_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/cuda/cuda_runtime.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/test_tensor.h"
#include "parallel/comm/communicator.h"

namespace strake::testing {

// Sets, during its lifetime, where the calling thread's RankTensors are; without one, on the CPU.
// On kCuda it binds a stream of its own to the communicator, and its destructor waits for that
// stream.
class ScopedRankDevice {
 public:
  ScopedRankDevice(Device device, Communicator& comm);
  ~ScopedRankDevice();
  ScopedRankDevice(const ScopedRankDevice&) = delete;
  ScopedRankDevice& operator=(const ScopedRankDevice&) = delete;

  // Null on the CPU.
  static ScopedRankDevice* OnGpu();
  // n on the CPU, and a smaller size on a GPU, whose emulator is slow.
  static int64_t Size(int64_t n) { return OnGpu() == nullptr ? n : (n + 15) / 16; }

  CudaStream stream() const { return stream_.get(); }
  // Pinned memory that lives until the stream's work is done.
  void* Staging(size_t num_bytes);

 private:
  CudaOwnStream stream_;
  std::vector<PinnedMemory> staging_;
};

// A TestTensor, or a tensor on the rank's GPU, whose bytes are initially 0xff.
class RankTensor {
 public:
  RankTensor(DType dtype, Shape shape);

  const Tensor& tensor() const { return tensor_; }
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)
  const Tensor* operator->() const { return &tensor_; }

 private:
  std::optional<TestTensor> on_cpu_;
  CudaMemory on_gpu_;
  Tensor tensor_;
};

// Fills x with what `fill` writes to a tensor like it on the CPU.
void FillOnHost(const Tensor& x, absl::FunctionRef<void(const Tensor& host)> fill);

// x's contents after all work that the rank has enqueued, where the host can read them.
class HostImage {
 public:
  explicit HostImage(const Tensor& x);
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)
  const Tensor* operator->() const { return &tensor_; }

 private:
  TensorBuffer buffer_;  // of a tensor on a GPU
  Tensor tensor_;
};

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_RANK_TENSOR_H_
