#include "train/plan/call_times.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

const GpuRates& Rates() {
  static const auto* rates = new GpuRates(GpuRates::H200());
  return *rates;
}

Tensor Bf16Matrix(int64_t m, int64_t n) { return Tensor(nullptr, DType::kBf16, {m, n}); }

// c [m, n] of depth k.
OpCall ProductCall(int64_t m, int64_t n, int64_t k, DType output = DType::kBf16,
                   const char* layer = "mlp up") {
  OpCall call = {.op = "matmul", .layer = layer};
  call.In("a", Bf16Matrix(m, k)).In("b", Bf16Matrix(k, n));
  call.Out("c", Tensor(nullptr, output, {m, n})).Flops(2.0 * m * n * k);
  return call;
}

// B = 2.
OpCall AttentionBackward(int64_t seq_len, int64_t num_heads, int64_t num_kv_heads,
                         int64_t head_dim) {
  const int64_t width = (num_heads + 2 * num_kv_heads) * head_dim;
  OpCall call = {.op = "causal_attention", .pass = Pass::kBackward};
  call.In("dy", Bf16Matrix(2 * seq_len, num_heads * head_dim))
      .In("qkv", Bf16Matrix(2 * seq_len, width))
      .Out("dqkv", Bf16Matrix(2 * seq_len, width))
      .Set("batch", 2)
      .Set("seq_len", static_cast<double>(seq_len))
      .Set("num_heads", static_cast<double>(num_heads))
      .Set("num_kv_heads", static_cast<double>(num_kv_heads))
      .Set("head_dim", static_cast<double>(head_dim))
      .Flops(1e15);
  return call;
}

std::vector<CallTimeRow> RowsOf(const OpCall& call, const StepRemedies& remedies = {}) {
  const auto rows = ForecastCall(call, Rates(), remedies);
  EXPECT_TRUE(rows.ok()) << rows.status();
  return rows.value_or(std::vector<CallTimeRow>(1));
}

void ExpectNear(const Forecast& actual, const Forecast& expected) {
  EXPECT_NEAR(actual.low, expected.low, 1e-12 * expected.low);
  EXPECT_NEAR(actual.expected, expected.expected, 1e-12 * expected.expected);
  EXPECT_NEAR(actual.ceiling, expected.ceiling, 1e-12 * expected.ceiling);
}

TEST(CallTimesTest, ProductsHaveTheRateOfTheirShape) {
  const auto expect = [](const OpCall& call, GpuRate rate) {
    const std::vector<CallTimeRow> rows = RowsOf(call);
    ASSERT_EQ(rows.size(), 1);
    EXPECT_EQ(rows[0].name, Rates().rows()[static_cast<int>(rate)].name) << call.ToString();
    EXPECT_EQ(rows[0].kernels, 1);
    ExpectNear(rows[0].seconds, call.cost.flops / Rates()[rate]);
  };
  const int64_t tokens = 16384;
  expect(ProductCall(tokens, 2048, 2048), GpuRate::kLargeProduct);
  expect(ProductCall(tokens, 2047, 8192), GpuRate::kMediumProduct);
  expect(ProductCall(tokens, 8192, 1024), GpuRate::kMediumProduct);
  expect(ProductCall(tokens, 1023, 8192), GpuRate::kSmallProduct);
  expect(ProductCall(tokens, 8192, 768), GpuRate::kSmallProduct);
  expect(ProductCall(4096, 2048, tokens, DType::kF32), GpuRate::kLargeWeightGradient);
  expect(ProductCall(1600, 6400, tokens, DType::kF32), GpuRate::kMediumWeightGradient);
  expect(ProductCall(3072, 768, tokens, DType::kF32), GpuRate::kSmallWeightGradient);
  expect(ProductCall(4096, 50304, 1600, DType::kBf16, "head"), GpuRate::kHead);
  expect(ProductCall(50304, 1600, 4096, DType::kF32, "head"), GpuRate::kHead);
  expect(ProductCall(4096, 50304, 768, DType::kBf16, "head"), GpuRate::kSmallHead);
  expect(ProductCall(50304, 768, 4096, DType::kF32, "head"), GpuRate::kSmallHead);
}

TEST(CallTimesTest, AFlatProductTakesTheTimeOfItsBytes) {
  const OpCall call = ProductCall(1, 4096, 4096);
  EXPECT_EQ(call.cost.bytes, 2.0 * (4096 + 4096 * 4096 + 4096));
  ExpectNear(RowsOf(call)[0].seconds, call.cost.bytes / Rates()[GpuRate::kCopy]);
}

TEST(CallTimesTest, TunedProductsAreFasterByTheirRate) {
  const OpCall call = ProductCall(16384, 4096, 4096);
  ExpectNear(RowsOf(call, {.tuned_products = true})[0].seconds,
             RowsOf(call)[0].seconds / Rates()[GpuRate::kTuning]);
}

// Two sequences, 3 heads, T = 200: tiles 2 x 2, of which 3 are not above the diagonal.
TEST(CallTimesTest, DeterministicAttentionMovesScores) {
  const OpCall call = AttentionBackward(/*seq_len=*/200, 3, 3, 64);
  const std::vector<CallTimeRow> rows = RowsOf(call);
  ASSERT_EQ(rows.size(), 2);
  ExpectNear(rows[0].seconds, 1e15 / Rates()[GpuRate::kShortBackward64]);
  const double bytes = 2 * 3 * (3 * 128 * 128) * 2 * /*written and read*/ 2;
  EXPECT_EQ(rows[1].name, "attention, backward: dS");
  EXPECT_EQ(rows[1].bytes, bytes);
  // In the low figure, all four tiles move.
  ExpectNear(rows[1].seconds, Forecast(bytes * 4 / 3, bytes, bytes) / Rates()[GpuRate::kCopy]);
}

// T = 1000, tiles 8 x 8: with a window of 200, a row of tiles sees its own and the two before it.
TEST(CallTimesTest, AWindowMovesItsScores) {
  OpCall call = AttentionBackward(/*seq_len=*/1000, 3, 3, 64);
  call.Set("window", 200);
  const std::vector<CallTimeRow> rows = RowsOf(call);
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[1].bytes, 2.0 * 3 * (1 + 2 + 6 * 3) * 128 * 128 * 2 * 2);
}

TEST(CallTimesTest, AShortWindowOfALongSequenceHasTheRateOfAShortOne) {
  OpCall wide = AttentionBackward(/*seq_len=*/8192, 2, 2, 64), narrow = wide;
  wide.Set("window", 4096);
  narrow.Set("window", 1024);
  ExpectNear(RowsOf(wide)[0].seconds, 1e15 / Rates()[GpuRate::kLongBackward64]);
  ExpectNear(RowsOf(narrow)[0].seconds, 1e15 / Rates()[GpuRate::kShortBackward64]);
}

TEST(CallTimesTest, AtomicAttentionMovesTheQueriesGradientsInstead) {
  const std::vector<CallTimeRow> rows =
      RowsOf(AttentionBackward(200, 3, 3, 64), {.atomic_attention = true});
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[1].bytes, 2 * 3 * 200 * 64 * 4 * 2);
}

TEST(CallTimesTest, GroupedHeadsMoveAGradientPerQueryHead) {
  const std::vector<CallTimeRow> rows = RowsOf(AttentionBackward(4096, 8, 2, 128));
  ASSERT_EQ(rows.size(), 3);
  ExpectNear(rows[0].seconds, 1e15 / Rates()[GpuRate::kLongBackward128]);
  EXPECT_EQ(rows[2].bytes, 2.0 * 8 * 4096 * 128 * /*K and V*/ 2 * /*bf16*/ 2 * 2);
}

// Rows of 1024 bf16 take two warps: eight blocks per multiprocessor, with a partial sum each.
TEST(CallTimesTest, NormsAddPartialSums) {
  OpCall call = {.op = "layer_norm", .pass = Pass::kBackward};
  const Tensor gradient(nullptr, DType::kF32, {1024});
  call.In("dy", Bf16Matrix(4096, 1024)).InOut("dweight", gradient).InOut("dbias", gradient);
  const double own = 4096 * 1024 * 2 + 2 * 2 * 1024 * 4, sums = 2.0 * 2 * (132 * 8) * 1024 * 4;
  ASSERT_EQ(call.cost.bytes, own);
  ExpectNear(RowsOf(call)[0].seconds,
             own / Rates()[GpuRate::kCopy] + sums / Rates()[GpuRate::kPartialSums]);
  EXPECT_EQ(RowsOf(call)[0].bytes, own + sums);
}

TEST(CallTimesTest, BiasGradientsAddPartialSums) {
  OpCall call = {.op = "bias_add", .pass = Pass::kBackward};
  call.In("dy", Bf16Matrix(64, 64)).InOut("dbias", Tensor(nullptr, DType::kF32, {64}));
  EXPECT_EQ(RowsOf(call)[0].name, "bias gradients");
  EXPECT_EQ(RowsOf(call)[0].bytes, call.cost.bytes + 2.0 * 64 * 64 * 4);
}

// Recomputation calls it in a step's backward pass.
TEST(CallTimesTest, AForwardOpIsOneInEveryPass) {
  OpCall call = {.op = "layer_norm", .pass = Pass::kBackward};
  call.In("x", Bf16Matrix(64, 64)).Out("y", Bf16Matrix(64, 64));
  EXPECT_EQ(RowsOf(call)[0].name, "norm, forward");
}

TEST(CallTimesTest, WhatHasNoRateIsAnError) {
  const auto error_of = [](const OpCall& call) {
    return std::string(ForecastCall(call, Rates()).status().message());
  };
  EXPECT_THAT(error_of({.op = "transmogrify"}),
              AllOf(HasSubstr("transmogrify forward"), HasSubstr("add the op to kOps")));
  EXPECT_THAT(error_of(AttentionBackward(1024, 2, 2, 80)), HasSubstr("heads of 64 and 128"));
  OpCall capped = AttentionBackward(1024, 2, 2, 64);
  capped.Set("score_softcap", 50);
  EXPECT_THAT(error_of(capped), HasSubstr("scores without a cap"));
  OpCall packed = AttentionBackward(1024, 2, 2, 64);
  packed.In("positions", Tensor(nullptr, DType::kI32, {1024}));
  EXPECT_THAT(error_of(packed), HasSubstr("sequences of one document"));
  OpCall f32 = {.op = "matmul"};
  const Tensor matrix(nullptr, DType::kF32, {2, 2});
  f32.In("a", matrix).In("b", matrix).Out("c", matrix).Flops(16);
  EXPECT_THAT(error_of(f32), HasSubstr("rates are of bf16"));
}

TEST(GpuRatesTest, AreOrderedAndKnownByName) {
  for (const GpuRateRow& row : Rates().rows()) {
    const bool time = row.rate == GpuRate::kGap || row.rate == GpuRate::kLinkLatency ||
                      row.rate == GpuRate::kContention;
    const double sign = time ? -1 : 1;
    EXPECT_LE(sign * row.value.low, sign * row.value.expected) << row.name;
    EXPECT_LE(sign * row.value.expected, sign * row.value.ceiling) << row.name;
  }
  EXPECT_EQ((*GpuRates::OfGpu("NVIDIA H200"))[GpuRate::kCopy], Rates()[GpuRate::kCopy]);
  const auto h100 = GpuRates::OfGpu("NVIDIA H100 80GB HBM3");
  ASSERT_TRUE(h100.ok()) << h100.status();
  EXPECT_NEAR((*h100)[GpuRate::kCopy].expected, 3.0e12, 0.01e12);
  EXPECT_EQ((*h100)[GpuRate::kGap], Rates()[GpuRate::kGap]);
  for (const char* other : {"NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA GH200 480GB",
                            "NVIDIA A100-SXM4-80GB", "emulated GPU"}) {
    EXPECT_THAT(std::string(GpuRates::OfGpu(other).status().message()),
                HasSubstr(absl::StrCat("none for ", other)));
  }
}

}  // namespace
}  // namespace strake
