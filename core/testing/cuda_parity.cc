#include "core/testing/cuda_parity.h"

#include <memory>

#include "core/base/thread_team.h"
#include "core/memory/activation_arena.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

// One operand's two tensors.
class Pair {
 public:
  Pair(const CudaOperand& operand, uint64_t seed) {
    const bool tokens = operand.dtype == DType::kI32;
    TestTensor start(operand.dtype, operand.shape);
    tokens ? FillTokens(start, seed, operand.num_tokens) : FillNormal(start, seed);
    on_cpu_ = std::make_unique<TestTensor>(tokens ? DType::kI32 : DType::kF64, operand.shape);
    CopyConvert(start, *on_cpu_);
    on_gpu_ = std::make_unique<CudaTestTensor>(start);
  }
  const Tensor& on_cpu() const { return *on_cpu_; }
  const Tensor& on_gpu() const { return *on_gpu_; }
  HostCopy FromGpu() const { return on_gpu_->ToHost(); }

 private:
  std::unique_ptr<TestTensor> on_cpu_;
  std::unique_ptr<CudaTestTensor> on_gpu_;
};

size_t PlannedBytes(const std::vector<CudaOperand>& operands, CudaParityOp op) {
  std::vector<Tensor> tensors;
  for (const CudaOperand& o : operands) {
    tensors.emplace_back(nullptr, o.dtype, o.shape, Device::kCuda);
  }
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(Device::kCuda);
  EXPECT_EQ(op(Context(&team, &arena), tensors), absl::OkStatus());
  return arena.peak_bytes();
}

}  // namespace

void ExpectCudaFollowsF64(const std::vector<CudaOperand>& operands, CudaParityOp op) {
  std::vector<Pair> pairs;
  std::vector<Tensor> on_cpu, on_gpu;
  for (size_t i = 0; i < operands.size(); ++i) {
    pairs.emplace_back(operands[i], i + 1);
    on_cpu.push_back(pairs[i].on_cpu());
    on_gpu.push_back(pairs[i].on_gpu());
  }
  CudaTestContext cuda(/*arena_bytes=*/size_t{1} << 20);
  ASSERT_EQ(op(TestContext(), on_cpu), absl::OkStatus());
  ASSERT_EQ(op(cuda, on_gpu), absl::OkStatus());
  for (size_t i = 0; i < operands.size(); ++i) {
    const HostCopy result = pairs[i].FromGpu();
    EXPECT_LE(RelativeError(result, on_cpu[i]), operands[i].tolerance)
        << "operand " << i << ", " << result.tensor().ToString();
    EXPECT_TRUE(on_cpu[i].num_elements() == 0 || MaxAbs(on_cpu[i]) > 0) << "operand " << i;
  }
  EXPECT_EQ(PlannedBytes(operands, op), cuda.context().arena().peak_bytes());
}

}  // namespace strake::testing
