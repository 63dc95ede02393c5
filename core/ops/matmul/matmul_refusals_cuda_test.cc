// Products on a GPU whose library refuses epilogues that it is documented to have.

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/cuda/cuda_runtime.h"
#include "core/ops/matmul/matmul.h"
#include "core/testing/cublaslt_contract/contract.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaDryRunPeakBytes;
using testing::CudaDryRunTensor;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::ScopedCublasLtBehaviour;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

// Numbers of cublasLtEpilogue_t.
constexpr int kBias = 4, kGelu = 160, kGeluBias = 164, kGeluGrad = 192, kSumsA = 256, kSumsB = 512;
const std::set<int> kAll = {kBias, kGelu, kGeluBias, kGeluGrad, kSumsA, kSumsB};
constexpr int kNotSupported = 15;

constexpr int64_t kTokens = 40, kIn = 16, kOut = 24;

// The products of a layer with GELU, forwards and backwards, in bf16 or the truth's f64.
struct Layer {
  explicit Layer(DType dtype, DType sums)
      : x(dtype, {kTokens, kIn}),
        w(dtype, {kIn, kOut}),
        bias(dtype, {kOut}),
        dy(dtype, {kTokens, kIn}),
        u(dtype, {kTokens, kOut}),
        y(dtype, {kTokens, kOut}),
        g(dtype, {kTokens, kOut}),
        du(dtype, {kTokens, kOut}),
        dw(sums, {kIn, kOut}),
        dwt(sums, {kOut, kIn}),
        db(sums, {kOut}),
        dbt(sums, {kOut}) {}
  TestTensor x, w, bias, dy, u, y, g, du, dw, dwt, db, dbt;

  std::vector<const TestTensor*> Inputs() const { return {&x, &w, &bias, &dy}; }
  std::vector<const TestTensor*> Outputs() const { return {&u, &y, &g, &du, &dw, &dwt, &db, &dbt}; }
};

using Tensors = std::vector<Tensor>;

// `t`: a Layer's inputs and outputs.
void RunLayer(const Context& ctx, const Tensors& t) {
  const Tensor &x = t[0], &w = t[1], &bias = t[2], &dy = t[3], &u = t[4], &y = t[5], &g = t[6],
               &du = t[7], &dw = t[8], &dwt = t[9], &db = t[10], &dbt = t[11];
  for (const absl::Status& status :
       {Matmul(ctx, x, w, {.bias = bias}, y), Matmul(ctx, x, w, {.gelu_input = u}, g),
        Matmul(ctx, x, w, {.bias = bias, .gelu_input = u}, g),
        Matmul(ctx, dy, w, {.gelu_grad_input = u}, du),
        Matmul(ctx, x, du, {.transpose_a = true, .b_sums = db}, dw),
        Matmul(ctx, du, x, {.transpose_a = true, .a_sums = dbt}, dwt)}) {
    EXPECT_TRUE(status.ok()) << status;
  }
}

struct Result {
  std::vector<HostCopy> outputs;
  std::map<std::string, int64_t> calls;  // of each op
};

Result RunOnGpu(const Layer& layer, const std::set<int>& refused, bool by_status,
                size_t arena_bytes) {
  const ScopedCublasLtBehaviour refuse(
      {.refused_epilogues = refused, .refusal = by_status ? kNotSupported : 0});
  CudaTestContext test(arena_bytes);
  OpProfile profile;
  test.context().set_profile(&profile);
  std::vector<CudaTestTensor> tensors;
  for (const TestTensor* each : layer.Inputs()) tensors.emplace_back(*each);
  for (const TestTensor* each : layer.Outputs()) tensors.emplace_back(*each);
  RunLayer(test, Tensors(tensors.begin(), tensors.end()));
  Result result;
  for (size_t i = layer.Inputs().size(); i < tensors.size(); ++i) {
    result.outputs.push_back(tensors[i].ToHost());
  }
  for (const auto& [op, entry] : profile.entries()) result.calls[op.first] += entry.calls;
  return result;
}

class MatmulRefusalsTest : public ::testing::Test {
 protected:
  MatmulRefusalsTest() {
    uint64_t seed = 1;
    for (const TestTensor* each : layer_.Inputs()) FillNormal(*each, seed++);
    for (const TestTensor* sums : {&layer_.db, &layer_.dbt}) FillNormal(*sums, seed++);
    const auto copy = [](const Layer& from, const Layer& to, auto part) {
      for (size_t i = 0; i < (from.*part)().size(); ++i) {
        CopyConvert(*(from.*part)()[i], *(to.*part)()[i]);
      }
    };
    copy(layer_, truth_, &Layer::Inputs);
    CopyConvert(layer_.db, truth_.db);
    CopyConvert(layer_.dbt, truth_.dbt);
    Tensors tensors;
    for (const TestTensor* each : truth_.Inputs()) tensors.push_back(*each);
    for (const TestTensor* each : truth_.Outputs()) tensors.push_back(*each);
    RunLayer(TestContext(), tensors);
    arena_bytes_ = CudaDryRunPeakBytes([&](const Context& ctx) {
      Tensors dry;
      for (const Tensor& each : tensors) {
        const DType dtype = &each - tensors.data() < 8 ? DType::kBf16 : DType::kF32;
        dry.push_back(CudaDryRunTensor(dtype, each.shape()));
      }
      RunLayer(ctx, dry);
    });
  }
  ~MatmulRefusalsTest() override {
    EXPECT_THAT(testing::TakeCublasLtViolations(), ::testing::IsEmpty());
  }

  // A sum of terms rounds its square root times, GELU's formula some 25 times, and up to 5 tensors
  // on the way are rounded to bf16, which GELU's slope lets grow.
  void ExpectFollowsF64(const Result& result) const {
    const double tolerance = 1.13 * (4 * (std::sqrt(kTokens) + 29) * UnitRoundoff(DType::kF32) +
                                     5 * UnitRoundoff(DType::kBf16));
    for (size_t i = 0; i < result.outputs.size(); ++i) {
      const Tensor& truth = *truth_.Outputs()[i];
      EXPECT_GT(MaxAbs(truth), 0.1) << i;
      EXPECT_LE(RelativeError(result.outputs[i], truth), tolerance) << i;
    }
  }

  const Layer layer_{DType::kBf16, DType::kF32}, truth_{DType::kF64, DType::kF64};
  size_t arena_bytes_ = 0;  // what a dry run plans
};

TEST_F(MatmulRefusalsTest, WithoutRefusalsEveryProductIsOneCall) {
  const Result result = RunOnGpu(layer_, {}, false, arena_bytes_);
  ExpectFollowsF64(result);
  EXPECT_EQ(result.calls.at("matmul"), 6);
  EXPECT_EQ(result.calls.count("bias_add"), 0u);
  EXPECT_EQ(result.calls.count("gelu"), 0u);
  EXPECT_EQ(result.calls.at("residual_add"), 2) << "sums are added to gradients";
}

TEST_F(MatmulRefusalsTest, WhatIsRefusedFollowsTheProduct) {
  const struct {
    int refused;
    int64_t bias_adds, gelus;
  } kCases[] = {{kBias, 1, 0},     {kGelu, 0, 1},  {kGeluBias, 0, 1},
                {kGeluGrad, 0, 1}, {kSumsA, 1, 0}, {kSumsB, 1, 0}};
  for (const auto& each : kCases) {
    for (const bool by_status : {false, true}) {
      SCOPED_TRACE(absl::StrCat(each.refused, ", by status: ", by_status));
      Result result = RunOnGpu(layer_, {each.refused}, by_status, arena_bytes_);
      ExpectFollowsF64(result);
      EXPECT_EQ(result.calls.at("matmul"), 6);
      EXPECT_EQ(result.calls["bias_add"], each.bias_adds);
      EXPECT_EQ(result.calls["gelu"], each.gelus);
    }
  }
}

TEST_F(MatmulRefusalsTest, EverythingMayBeRefused) {
  Result result = RunOnGpu(layer_, kAll, true, arena_bytes_);
  ExpectFollowsF64(result);
  EXPECT_EQ(result.calls["bias_add"], 4);
  EXPECT_EQ(result.calls["gelu"], 3);
  const Result again = RunOnGpu(layer_, kAll, true, arena_bytes_);
  for (size_t i = 0; i < again.outputs.size(); ++i) {
    EXPECT_TRUE(SameBits(result.outputs[i], again.outputs[i])) << i;
  }
}

// A second run is captured, when the answers are known.
TEST_F(MatmulRefusalsTest, AGraphHasWhatWasDecidedBeforeIt) {
  CudaTestContext test(arena_bytes_);
  std::vector<CudaTestTensor> tensors;
  for (const TestTensor* each : layer_.Inputs()) tensors.emplace_back(*each);
  for (const TestTensor* each : layer_.Outputs()) tensors.emplace_back(*each);
  const Tensors t(tensors.begin(), tensors.end());
  {
    const ScopedCublasLtBehaviour refuse({.refused_epilogues = kAll});
    RunLayer(test, t);
  }
  const HostCopy eager = tensors[6].ToHost();
  auto graph = CudaGraph::Capture(test.context().cuda_stream(), [&] {
    RunLayer(test, t);
    return absl::OkStatus();
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  ASSERT_TRUE(graph->Launch(test.context().cuda_stream()).ok());
  EXPECT_TRUE(SameBits(tensors[6].ToHost(), eager)) << "g";
}

}  // namespace
}  // namespace strake
