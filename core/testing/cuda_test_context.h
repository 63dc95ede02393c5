// A context on GPU 0, for tests of ops and layers.
#ifndef STRAKE_CORE_TESTING_CUDA_TEST_CONTEXT_H_
#define STRAKE_CORE_TESTING_CUDA_TEST_CONTEXT_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/tensor/tensor.h"
#include "glog/logging.h"

namespace strake::testing {

class CudaTestContext {
 public:
  explicit CudaTestContext(size_t arena_bytes = size_t{1} << 24) : team_(1) {
    auto cuda = CudaContext::Create(0);
    CHECK(cuda.ok()) << cuda.status();
    cuda_ = std::move(cuda).value();
    auto arena = ActivationArena::Create(arena_bytes, Device::kCuda);
    CHECK(arena.ok()) << arena.status();
    arena_.emplace(std::move(arena).value());
    context_.emplace(&team_, &*arena_);
    context_->set_cuda(cuda_.get());
  }

  Context& context() { return *context_; }
  operator const Context&() const { return *context_; }  // NOLINT(google-explicit-constructor)

 private:
  ThreadTeam team_;
  std::unique_ptr<CudaContext> cuda_;
  std::optional<ActivationArena> arena_;
  std::optional<Context> context_;
};

// Bytes that run(ctx) needs of an arena on a GPU, planned in a dry run. Its tensors are
// CudaDryRunTensor()s.
template <typename Run>
size_t CudaDryRunPeakBytes(const Run& run) {
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(Device::kCuda);
  run(Context(&team, &arena));
  return arena.peak_bytes();
}
inline Tensor CudaDryRunTensor(DType dtype, const Shape& shape) {
  return Tensor(nullptr, dtype, shape, Device::kCuda);
}

// A tensor on the GPU with the contents of `host`.
class CudaTestTensor {
 public:
  explicit CudaTestTensor(const Tensor& host) : CudaTestTensor(host.dtype(), host.shape()) {
    CHECK(CopyBlocking(host, buffer_.tensor()).ok());
  }
  CudaTestTensor(DType dtype, const Shape& shape) {
    auto buffer = DeviceBuffer::Create(Device::kCuda, dtype, shape);
    CHECK(buffer.ok()) << buffer.status();
    buffer_ = std::move(buffer).value();
  }
  operator const Tensor&() const {
    return buffer_.tensor();
  }  // NOLINT(google-explicit-constructor)

  // Waits for all enqueued work.
  HostCopy ToHost() const {
    auto copy = HostCopy::Of(buffer_.tensor());
    CHECK(copy.ok()) << copy.status();
    return std::move(copy).value();
  }

 private:
  DeviceBuffer buffer_;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_TEST_CONTEXT_H_
