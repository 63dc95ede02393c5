// Matrix products on a GPU, with and without epilogues.

#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/cuda/cublaslt.h"
#include "core/ops/matmul/matmul.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

enum class Epilogue { kNone, kBias, kGelu, kBiasGelu, kGeluGrad };
constexpr Epilogue kEpilogues[] = {Epilogue::kNone, Epilogue::kBias, Epilogue::kGelu,
                                   Epilogue::kBiasGelu, Epilogue::kGeluGrad};

bool HasBias(Epilogue e) { return e == Epilogue::kBias || e == Epilogue::kBiasGelu; }
bool HasGelu(Epilogue e) { return e == Epilogue::kGelu || e == Epilogue::kBiasGelu; }

struct Problem {
  int64_t m, n, k;
  DType input = DType::kF32, output = DType::kF32;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  Epilogue epilogue = Epilogue::kNone;
  bool integers = false;

  Shape a() const { return transpose_a ? Shape{k, m} : Shape{m, k}; }
  Shape b() const { return transpose_b ? Shape{n, k} : Shape{k, n}; }
  std::string ToString() const {
    return absl::StrCat(m, " x ", n, " x ", k, " ", DTypeName(input), " to ", DTypeName(output),
                        ", transposed ", transpose_a, transpose_b, ", accumulate ", accumulate,
                        ", epilogue ", static_cast<int>(epilogue));
  }
};

// Tensors of a problem on the host. Inputs have the problem's dtypes: the truth in f64 starts from
// what the GPU has, so that rounding them is not an error of the product.
struct Operands {
  explicit Operands(const Problem& p)
      : a(p.input, p.a()),
        b(p.input, p.b()),
        bias(p.input, {p.n}),
        gelu_input(p.input, {p.m, p.n}),
        c(p.output, {p.m, p.n}) {
    const auto fill = [&p](const Tensor& x, uint64_t seed) {
      p.integers ? FillSmallIntegers(x, seed, 3) : FillNormal(x, seed);
    };
    fill(a, 1);
    fill(b, 2);
    fill(bias, 3);
    if (p.epilogue == Epilogue::kGeluGrad) fill(gelu_input, 4);
    if (p.accumulate) fill(c, 5);
  }
  TestTensor a, b, bias, gelu_input, c;
};

MatmulOptions Options(const Problem& p, const Tensor& bias, const Tensor& gelu_input) {
  MatmulOptions options = {p.transpose_a, p.transpose_b, p.accumulate};
  if (HasBias(p.epilogue)) options.bias = bias;
  if (HasGelu(p.epilogue)) options.gelu_input = gelu_input;
  if (p.epilogue == Epilogue::kGeluGrad) options.gelu_grad_input = gelu_input;
  return options;
}

// c, and u if there is one, computed by the ops in f64 on the CPU.
struct Truth {
  explicit Truth(const Operands& x, const Problem& p)
      : gelu_input(DType::kF64, {p.m, p.n}), c(DType::kF64, {p.m, p.n}) {
    TestTensor a(DType::kF64, p.a()), b(DType::kF64, p.b()), bias(DType::kF64, {p.n});
    CopyConvert(x.a, a);
    CopyConvert(x.b, b);
    CopyConvert(x.bias, bias);
    CopyConvert(x.gelu_input, gelu_input);
    CopyConvert(x.c, c);
    EXPECT_TRUE(Matmul(TestContext(), a, b, Options(p, bias, gelu_input), c).ok());
  }
  TestTensor gelu_input, c;
};

struct Result {
  HostCopy gelu_input, c;
};

Result RunOnGpu(const Context& ctx, const Operands& x, const Problem& p) {
  const CudaTestTensor a(x.a), b(x.b), bias(x.bias), gelu_input(x.gelu_input), c(x.c);
  const absl::Status status = Matmul(ctx, a, b, Options(p, bias, gelu_input), c);
  EXPECT_TRUE(status.ok()) << status;
  return {gelu_input.ToHost(), c.ToHost()};
}

// The error of a sum of k terms of random sign is about sqrt(k) roundings of its largest partial
// sums, and 4 more operations round; the factor 4 is for the tail. Each tensor that is stored on
// the way to c is rounded to the dtype, at most 3: u, u with the bias, c. GELU's derivative is at
// most 1.13, and so is the factor by which an error of u grows; its own formula adds some 25
// roundings.
double Tolerance(const Problem& p) {
  const bool gelu = HasGelu(p.epilogue) || p.epilogue == Epilogue::kGeluGrad;
  const double f32 = 4 * (std::sqrt(p.k) + 4 + (gelu ? 25 : 0)) * UnitRoundoff(DType::kF32);
  return 1.13 * (f32 + 3 * UnitRoundoff(p.output));
}

void CheckAgainstF64(const Context& ctx, const Problem& p) {
  SCOPED_TRACE(p.ToString());
  const Operands x(p);
  const Truth truth(x, p);
  const Result got = RunOnGpu(ctx, x, p);
  EXPECT_GT(MaxAbs(truth.c), 0.1);
  EXPECT_LE(RelativeError(got.c, truth.c), Tolerance(p));
  if (HasGelu(p.epilogue)) {
    EXPECT_LE(RelativeError(got.gelu_input, truth.gelu_input), Tolerance(p));
  }
}

// f32; bf16; bf16 with sums that stay in f32.
constexpr std::tuple<DType, DType> kDTypes[] = {
    {DType::kF32, DType::kF32}, {DType::kBf16, DType::kBf16}, {DType::kBf16, DType::kF32}};

// All transposes, dtypes and options, on integers whose sums are exact in f32 and, except for the
// last rounding, in bf16. The bits must be those of the CPU in f64, rounded once.
TEST(MatmulCudaTest, ExactOnSmallIntegers) {
  const CudaTestContext ctx;
  for (const auto& [m, n, k] : {std::tuple{1, 1, 1}, {5, 3, 7}, {8, 16, 24}, {1, 9, 13}}) {
    for (const auto& [input, output] : kDTypes) {
      for (int bits = 0; bits < 16; ++bits) {
        const bool accumulate = (bits & 4) != 0, bias = (bits & 8) != 0;
        if (bias && (accumulate || input != output)) continue;
        const Problem p = {.m = m,
                           .n = n,
                           .k = k,
                           .input = input,
                           .output = output,
                           .transpose_a = (bits & 1) != 0,
                           .transpose_b = (bits & 2) != 0,
                           .accumulate = accumulate,
                           .epilogue = bias ? Epilogue::kBias : Epilogue::kNone,
                           .integers = true};
        SCOPED_TRACE(p.ToString());
        const Operands x(p);
        const Truth truth(x, p);
        TestTensor expected(output, {m, n});
        CopyConvert(truth.c, expected);
        EXPECT_TRUE(SameBits(RunOnGpu(ctx, x, p).c, expected));
      }
    }
  }
}

// 16 columns can be fused with a GELU in bf16, 15 cannot.
TEST(MatmulCudaTest, EpiloguesFollowF64) {
  const CudaTestContext ctx;
  for (const int64_t n : {16, 15}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const Epilogue epilogue : kEpilogues) {
        for (const bool transpose_b : {false, true}) {
          CheckAgainstF64(ctx, {.m = 7,
                                .n = n,
                                .k = 33,
                                .input = dtype,
                                .output = dtype,
                                .transpose_b = transpose_b,
                                .epilogue = epilogue});
        }
      }
    }
  }
}

TEST(MatmulCudaTest, WeightGradientsFollowF64) {
  const CudaTestContext ctx;
  for (const auto& [input, output] : kDTypes) {
    CheckAgainstF64(ctx, {.m = 24,
                          .n = 17,
                          .k = 65,
                          .input = input,
                          .output = output,
                          .transpose_a = true,
                          .accumulate = true});
  }
}

// Makes one call if cuBLASLt supports it, and then GELU is not an op of its own. The library may
// refuse odd sizes that its limits allow, so these are not odd.
TEST(MatmulCudaTest, FusesWhatItCan) {
  const auto gelu_calls = [](DType dtype, int64_t n, Epilogue epilogue) {
    CudaTestContext test;
    OpProfile profile;
    test.context().set_profile(&profile);
    const Problem p = {
        .m = 64, .n = n, .k = 64, .input = dtype, .output = dtype, .epilogue = epilogue};
    RunOnGpu(test, Operands(p), p);
    EXPECT_EQ(profile.entries().count({"bias_add", Pass::kForward}), 0u);
    EXPECT_EQ(profile.entries().at({"matmul", Pass::kForward}).calls, 1);
    return profile.entries().count({"gelu", Pass::kForward});
  };
  for (const Epilogue epilogue : {Epilogue::kGelu, Epilogue::kBiasGelu, Epilogue::kGeluGrad}) {
    EXPECT_EQ(gelu_calls(DType::kBf16, 64, epilogue), 0u);
    EXPECT_EQ(gelu_calls(DType::kBf16, 60, epilogue), 1u);
    EXPECT_EQ(gelu_calls(DType::kF32, 64, epilogue), 1u);
  }
}

TEST(MatmulCudaTest, EmptySizes) {
  const CudaTestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const Epilogue epilogue : kEpilogues) {
      for (const auto& [m, n] : {std::tuple{0, 8}, {3, 0}}) {
        const Problem p = {
            .m = m, .n = n, .k = 5, .input = dtype, .output = dtype, .epilogue = epilogue};
        RunOnGpu(ctx, Operands(p), p);
      }
    }
    // A sum of nothing is 0, so only the bias is left.
    for (const Epilogue epilogue : {Epilogue::kBias, Epilogue::kBiasGelu}) {
      CheckAgainstF64(
          ctx, {.m = 3, .n = 8, .k = 0, .input = dtype, .output = dtype, .epilogue = epilogue});
    }
    Problem p = {.m = 3, .n = 8, .k = 0, .input = dtype, .output = dtype};
    EXPECT_EQ(MaxAbs(RunOnGpu(ctx, Operands(p), p).c), 0);
    p.accumulate = true;
    const Operands x(p);
    EXPECT_GT(MaxAbs(x.c), 0);
    EXPECT_TRUE(SameBits(RunOnGpu(ctx, x, p).c, x.c));
  }
}

TEST(MatmulCudaTest, TheSameBitsTwice) {
  const CudaTestContext ctx;
  for (const auto& [input, output] : kDTypes) {
    const Problem p = {.m = 9, .n = 24, .k = 130, .input = input, .output = output};
    const Operands x(p);
    EXPECT_TRUE(SameBits(RunOnGpu(ctx, x, p).c, RunOnGpu(ctx, x, p).c));
  }
}

// Rows in the middle of matrices begin at addresses that are only aligned to one element.
TEST(MatmulCudaTest, AddressesOfAnyAlignment) {
  const CudaTestContext ctx;
  TestTensor a64(DType::kF64, {5, 3}), b64(DType::kF64, {3, 5}), c64(DType::kF64, {4, 5});
  FillSmallIntegers(a64, 1, 3);
  FillSmallIntegers(b64, 2, 3);
  ASSERT_TRUE(Matmul(TestContext(), a64->Rows(1, 5), b64, {}, c64).ok());
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor a(dtype, {5, 3}), b(dtype, {3, 5}), expected(dtype, {4, 5});
    CopyConvert(a64, a);
    CopyConvert(b64, b);
    CopyConvert(c64, expected);
    const CudaTestTensor on_gpu_a(a), on_gpu_b(b), c(dtype, {5, 5});
    const Tensor &all_a = on_gpu_a, &all_c = c;
    ASSERT_TRUE(Matmul(ctx, all_a.Rows(1, 5), on_gpu_b, {}, all_c.Rows(1, 5)).ok());
    EXPECT_TRUE(SameBits(Tensor(c.ToHost()).Rows(1, 5), expected));
  }
}

TEST(MatmulCudaTest, WhatCanBeFused) {
  CudaProduct p = {.m = 4, .n = 8, .k = 2, .input = DType::kBf16, .output = DType::kBf16};
  alignas(16) uint16_t memory[64];
  EXPECT_TRUE(CublasLt::CanFuse(p));
  p.bias = memory;
  EXPECT_TRUE(CublasLt::CanFuse(p));
  p.output = DType::kF32;
  EXPECT_FALSE(CublasLt::CanFuse(p));  // a bias of another dtype
  p.bias = nullptr;
  EXPECT_TRUE(CublasLt::CanFuse(p));
  p.output = DType::kBf16;
  p.epilogue = CudaEpilogue::kGelu;
  p.gelu_input = memory;
  EXPECT_TRUE(CublasLt::CanFuse(p));
  p.gelu_input = memory + 1;
  EXPECT_FALSE(CublasLt::CanFuse(p));
  p.gelu_input = memory;
  p.n = 12;
  EXPECT_FALSE(CublasLt::CanFuse(p));
  p.n = 8;
  p.bias = memory + 1;
  EXPECT_FALSE(CublasLt::CanFuse(p));
  p.epilogue = CudaEpilogue::kNone;
  EXPECT_FALSE(CublasLt::CanFuse(p));
  p.bias = nullptr;
  p.epilogue = CudaEpilogue::kSumB;
  EXPECT_FALSE(CublasLt::CanFuse(p));  // sums in bf16
  p.output = DType::kF32;
  EXPECT_TRUE(CublasLt::CanFuse(p));
}

}  // namespace
}  // namespace strake
