#include "core/testing/cuda_parity.h"

#include <memory>

#include "core/base/thread_team.h"
#include "core/memory/activation_arena.h"
#include "core/ops/cpu/isa.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using Tensors = std::vector<Tensor>;

// Creates operands with their initial contents.
std::unique_ptr<TestTensor> Start(const ParityOperand& operand, uint64_t seed) {
  auto start = std::make_unique<TestTensor>(operand.dtype, operand.shape);
  operand.dtype == DType::kI32 ? FillTokens(*start, seed, operand.num_tokens)
                               : FillNormal(*start, seed);
  return start;
}

std::vector<std::unique_ptr<TestTensor>> StartAll(const std::vector<ParityOperand>& operands) {
  std::vector<std::unique_ptr<TestTensor>> all;
  for (size_t i = 0; i < operands.size(); ++i) all.push_back(Start(operands[i], i + 1));
  return all;
}

// Returns the op's results in f64.
std::vector<std::unique_ptr<TestTensor>> Truth(const std::vector<ParityOperand>& operands,
                                               ParityOp op) {
  std::vector<std::unique_ptr<TestTensor>> truth;
  Tensors tensors;
  for (const auto& start : StartAll(operands)) {
    const DType dtype = (*start)->dtype() == DType::kI32 ? DType::kI32 : DType::kF64;
    truth.push_back(std::make_unique<TestTensor>(dtype, (*start)->shape()));
    CopyConvert(*start, *truth.back());
    tensors.push_back(*truth.back());
  }
  EXPECT_EQ(op(TestContext(), tensors), absl::OkStatus());
  return truth;
}

void ExpectNear(const std::vector<ParityOperand>& operands, size_t i, const Tensor& result,
                const Tensor& truth) {
  EXPECT_LE(RelativeError(result, truth), operands[i].tolerance)
      << "operand " << i << ", " << result.ToString();
  EXPECT_TRUE(truth.num_elements() == 0 || MaxAbs(truth) > 0) << "operand " << i;
}

size_t PlannedBytes(const std::vector<ParityOperand>& operands, Device device, ParityOp op) {
  Tensors tensors;
  for (const ParityOperand& o : operands) tensors.emplace_back(nullptr, o.dtype, o.shape, device);
  ThreadTeam team(device == Device::kCpu ? 2 : 1);
  ActivationArena arena = ActivationArena::DryRun(device);
  EXPECT_EQ(op(Context(&team, &arena), tensors), absl::OkStatus());
  return arena.peak_bytes();
}

void ExpectCudaFollows(const std::vector<ParityOperand>& operands, ParityOp op,
                       const std::vector<std::unique_ptr<TestTensor>>& truth) {
  SCOPED_TRACE("on the GPU");
  std::vector<std::unique_ptr<CudaTestTensor>> results;
  Tensors tensors;
  for (const auto& start : StartAll(operands)) {
    results.push_back(std::make_unique<CudaTestTensor>(*start));
    tensors.push_back(*results.back());
  }
  CudaTestContext cuda(/*arena_bytes=*/size_t{1} << 20);
  ASSERT_EQ(op(cuda, tensors), absl::OkStatus());
  for (size_t i = 0; i < operands.size(); ++i) {
    const HostCopy result = results[i]->ToHost();
    ExpectNear(operands, i, result, *truth[i]);
  }
  EXPECT_EQ(PlannedBytes(operands, Device::kCuda, op), cuda.context().arena().peak_bytes());
}

void ExpectCpuFollows(const std::vector<ParityOperand>& operands, ParityOp op,
                      const std::vector<std::unique_ptr<TestTensor>>& truth, cpu::Isa isa) {
  SCOPED_TRACE(isa == cpu::Isa::kAvx512 ? "on the CPU with AVX-512" : "on the CPU with AVX2");
  const cpu::ScopedIsa scoped(isa);
  const auto results = StartAll(operands);
  Tensors tensors;
  for (const auto& result : results) tensors.push_back(*result);
  TestContext cpu;
  ASSERT_EQ(op(cpu, tensors), absl::OkStatus());
  for (size_t i = 0; i < operands.size(); ++i) ExpectNear(operands, i, *results[i], *truth[i]);
  EXPECT_EQ(PlannedBytes(operands, Device::kCpu, op), cpu.context().arena().peak_bytes());
}

}  // namespace

void ExpectFollowsF64(const std::vector<ParityOperand>& operands, ParityOp op) {
  ExpectCudaFollows(operands, op, Truth(operands, op));
  ExpectCpuFollowsF64(operands, op);
}

void ExpectCpuFollowsF64(const std::vector<ParityOperand>& operands, ParityOp op) {
  const auto truth = Truth(operands, op);
  ExpectCpuFollows(operands, op, truth, cpu::Isa::kAvx2);
  if (cpu::BestIsa() == cpu::Isa::kAvx512) {
    ExpectCpuFollows(operands, op, truth, cpu::Isa::kAvx512);
  }
}

}  // namespace strake::testing
