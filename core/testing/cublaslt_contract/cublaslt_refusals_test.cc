// core/cuda/cublaslt.cc on a library that refuses what it may refuse.
#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/cuda/cublaslt.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/product_tuning.h"
#include "core/testing/cublaslt_contract/contract.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CublasLtRefusalsTest : public ::testing::Test {
 protected:
  static constexpr int64_t kM = 6, kN = 8, kK = 40;

  CublasLtRefusalsTest() {
    auto memory = CudaMemory::Allocate(1 << 16);
    EXPECT_TRUE(memory.ok()) << memory.status();
    memory_ = std::move(memory).value();
    std::vector<Bf16> random(memory_.num_bytes() / sizeof(Bf16));
    uint32_t state = 1;
    for (Bf16& x : random) x = Bf16(float((state = state * 1664525 + 1013904223) >> 8) * 0x1p-24f);
    EXPECT_TRUE(CopyToDevice(memory_.data(), random.data(), memory_.num_bytes(), nullptr).ok());
  }
  ~CublasLtRefusalsTest() override {
    EXPECT_THAT(TakeCublasLtViolations(), IsEmpty());
    EXPECT_EQ(NumCublasLtHandles(), 0);
  }

  static std::unique_ptr<CublasLt> Create(const ProductTuning* tuning = nullptr) {
    auto created = CublasLt::Create(tuning);
    EXPECT_TRUE(created.ok()) << created.status();
    return std::move(created).value();
  }

  // Operands lie 4 KiB apart.
  CudaProduct Gelu() const {
    char* const at = static_cast<char*>(memory_.data());
    return {.m = kM,
            .n = kN,
            .k = kK,
            .input = DType::kBf16,
            .output = DType::kBf16,
            .epilogue = CudaEpilogue::kGelu,
            .a = at,
            .b = at + 0x1000,
            .bias = at + 0x2000,
            .gelu_input = at + 0x3000,
            .c = at + 0x4000};
  }
  // A product in f32, so that the order of sums shows.
  CudaProduct Plain() const {
    CudaProduct product = Gelu();
    product.epilogue = CudaEpilogue::kNone;
    product.bias = nullptr;
    product.gelu_input = nullptr;
    product.output = DType::kF32;
    return product;
  }
  std::vector<float> Result(const CudaProduct& product) const {
    std::vector<float> c(kM * kN);
    EXPECT_TRUE(CopyToHost(c.data(), product.c, c.size() * sizeof(float), nullptr).ok());
    return c;
  }

  CudaMemory memory_;
};

TEST_F(CublasLtRefusalsTest, NoAlgorithmIsAnAnswer) {
  for (const int refusal : {int{CUBLAS_STATUS_SUCCESS}, int{CUBLAS_STATUS_NOT_SUPPORTED},
                            int{CUBLAS_STATUS_INVALID_VALUE}}) {
    for (const bool by_result : {false, true}) {
      if (by_result && refusal == CUBLAS_STATUS_SUCCESS) continue;
      const ScopedCublasLtBehaviour refuse({
          .refused_epilogues = {CUBLASLT_EPILOGUE_GELU_AUX_BIAS},
          .refusal = refusal,
          .refused_by_result = by_result,
      });
      const std::unique_ptr<CublasLt> cublaslt = Create();
      EXPECT_EQ(cublaslt->NumAlgorithms(Gelu()).value(), 0);
      EXPECT_GT(cublaslt->NumAlgorithms(Plain()).value(), 0);
      const absl::Status status = cublaslt->Multiply(nullptr, Gelu());
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("CUBLAS_STATUS_NOT_SUPPORTED), in c bf16[6, 8] = a bf16[6, 40] b "
                            "bf16[40, 8], bias, gelu"));
    }
  }
}

TEST_F(CublasLtRefusalsTest, TheAnswerForAShapeDoesNotChange) {
  const std::unique_ptr<CublasLt> cublaslt = Create();
  ASSERT_GT(cublaslt->NumAlgorithms(Gelu()).value(), 0);
  const ScopedCublasLtBehaviour refuse({.refused_epilogues = {CUBLASLT_EPILOGUE_GELU_AUX_BIAS}});
  EXPECT_GT(cublaslt->NumAlgorithms(Gelu()).value(), 0);
  EXPECT_TRUE(cublaslt->Multiply(nullptr, Gelu()).ok());
}

// An algorithm serves all addresses that are aligned like a tensor, whichever came first.
TEST_F(CublasLtRefusalsTest, OperandsMayLieAnywhere) {
  const std::unique_ptr<CublasLt> cublaslt = Create();
  for (const int64_t offset : {0, 64, 128, 320, 32, 16, 48}) {
    CudaProduct product = Gelu();
    const auto move = [offset](const void* from) {
      return const_cast<char*>(static_cast<const char*>(from)) + offset;
    };
    product.a = move(product.a);
    product.bias = move(product.bias);
    product.gelu_input = move(product.gelu_input);
    const absl::Status status = cublaslt->Multiply(nullptr, product);
    EXPECT_TRUE(status.ok()) << offset << ": " << status;
  }
}

TEST_F(CublasLtRefusalsTest, OtherErrorsEndTheProduct) {
  {
    const ScopedCublasLtBehaviour broken({
        .refused_epilogues = {CUBLASLT_EPILOGUE_GELU_AUX_BIAS},
        .refusal = CUBLAS_STATUS_INTERNAL_ERROR,
    });
    const auto answer = Create()->NumAlgorithms(Gelu());
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr("CUBLAS_STATUS_INTERNAL_ERROR"));
  }
  {
    const ScopedCublasLtBehaviour broken({.matmul_status = CUBLAS_STATUS_EXECUTION_FAILED});
    EXPECT_THAT(std::string(Create()->Multiply(nullptr, Plain()).message()),
                HasSubstr("cublasLtMatmul: the kernel failed"));
  }
  const ScopedCublasLtBehaviour broken({.create_status = CUBLAS_STATUS_NOT_INITIALIZED});
  EXPECT_THAT(std::string(CublasLt::Create().status().message()), HasSubstr("cublasLtCreate"));
}

TEST_F(CublasLtRefusalsTest, TakesNoAlgorithmWithoutRoomForItsWorkspace) {
  const ScopedCublasLtBehaviour greedy({
      .workspaces = {2 * CublasLt::kWorkspaceBytes, 512},
      .ignores_max_workspace = true,
  });
  const std::unique_ptr<CublasLt> cublaslt = Create();
  EXPECT_EQ(cublaslt->NumAlgorithms(Plain()).value(), 1);
  EXPECT_TRUE(cublaslt->Multiply(nullptr, Plain()).ok());
}

// The contract's algorithms sum in different orders.
TEST_F(CublasLtRefusalsTest, ATuningChoosesTheAlgorithmAndWithItTheBits) {
  const CudaProduct product = Plain();
  const auto bits_of = [&](const ProductTuning* tuning) {
    EXPECT_TRUE(Create(tuning)->Multiply(nullptr, product).ok());
    return Result(product);
  };
  const auto bits_by = [&](int algorithm) {
    const std::unique_ptr<CublasLt> cublaslt = Create();
    EXPECT_EQ(cublaslt->NumAlgorithms(product).value(), 4);
    EXPECT_TRUE(cublaslt->MultiplyBy(algorithm, nullptr, product).ok());
    return Result(product);
  };
  const std::vector<float> first = bits_by(0), third = bits_by(2);
  ASSERT_NE(first, third);
  ProductTuning tuning = {.gpu = "emulated GPU", .cublaslt = 130100, .algorithms = {}};
  EXPECT_EQ(bits_of(nullptr), first);
  EXPECT_EQ(bits_of(&tuning), first) << "without an entry";
  tuning.algorithms[ToString(product)] = 2;
  EXPECT_EQ(bits_of(&tuning), third);
  EXPECT_EQ(bits_of(&tuning), third) << "every time";
  tuning.algorithms[ToString(product)] = 8;
  EXPECT_EQ(bits_of(&tuning), first) << "an answer that the library does not give";
  tuning.algorithms[ToString(product)] = 2;
  tuning.cublaslt = 130200;
  EXPECT_EQ(bits_of(&tuning), first) << "of another version";
}

TEST_F(CublasLtRefusalsTest, ATuningMayLeaveTheEpilogueToOtherKernels) {
  const ProductTuning tuning = {.gpu = "emulated GPU",
                                .cublaslt = 130100,
                                .algorithms = {{ToString(Gelu()), ProductTuning::kUnfused},
                                               {ToString(Plain()), ProductTuning::kUnfused}}};
  const std::unique_ptr<CublasLt> cublaslt = Create(&tuning);
  EXPECT_EQ(cublaslt->NumAlgorithms(Gelu()).value(), 0);
  EXPECT_EQ(cublaslt->NumAlgorithms(Plain()).value(), 4) << "it has no epilogue";
  EXPECT_TRUE(cublaslt->Multiply(nullptr, Plain()).ok());
}

// Only addresses that are as aligned as every tensor's have the measured answers.
TEST_F(CublasLtRefusalsTest, ATuningIsForAlignedOperands) {
  CudaProduct product = Plain();
  const ProductTuning tuning = {
      .gpu = "emulated GPU", .cublaslt = 130100, .algorithms = {{ToString(product), 2}}};
  product.a = static_cast<const char*>(product.a) + 32;
  const auto cublaslt = Create(&tuning);
  ASSERT_TRUE(cublaslt->Multiply(nullptr, product).ok());
  const std::vector<float> chosen = Result(product);
  ASSERT_TRUE(cublaslt->MultiplyBy(0, nullptr, product).ok());
  EXPECT_EQ(chosen, Result(product));
  ASSERT_TRUE(cublaslt->MultiplyBy(2, nullptr, product).ok());
  EXPECT_NE(chosen, Result(product));
}

}  // namespace
}  // namespace strake::testing
