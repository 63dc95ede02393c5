#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/norm/rms_norm.h"
#include "core/ops/qk_norm/qk_norm.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

constexpr int64_t kRows = 512, kNumHeads = 16, kNumKvHeads = 8, kHeadDim = 128;
constexpr int64_t kColumns = (kNumHeads + kNumKvHeads) * kHeadDim;  // queries and keys

// Argument 0: 1 for the backward pass; 1: 1 for the whole projection.
void BM_QkNorm(benchmark::State& state) {
  const bool whole = state.range(1) != 0;
  const QkNormHeads heads = {whole ? QkNormKind::kWhole : QkNormKind::kPerHead, kNumHeads,
                             kNumKvHeads, kHeadDim};
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  const Shape query_shape = {whole ? kNumHeads * kHeadDim : kHeadDim},
              key_shape = {whole ? kNumKvHeads * kHeadDim : kHeadDim};
  TestTensor qkv(DType::kF32, {kRows, heads.num_columns()}), raw(DType::kF32, {kRows, kColumns}),
      rstd(DType::kF32, {kRows, heads.num_groups()}), query(DType::kF32, query_shape),
      key(DType::kF32, key_shape), dquery(DType::kF32, query_shape), dkey(DType::kF32, key_shape);
  FillNormal(qkv, 1);
  FillConstant(query, 1);
  FillConstant(key, 1);
  FillConstant(dquery, 0);
  FillConstant(dkey, 0);
  const QkNormWeights weights = {query, key};
  (void)QkNormForward(ctx, heads, weights, 1e-5, {}, qkv, raw, rstd);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)QkNormBackward(ctx, heads, weights, raw, rstd, {}, qkv, dquery, dkey);
    } else {
      (void)QkNormForward(ctx, heads, weights, 1e-5, {}, qkv, raw, rstd);
    }
  }
  state.SetBytesProcessed(state.iterations() * 3 * kRows * kColumns * sizeof(float));
}
BENCHMARK(BM_QkNorm)->ArgsProduct({{0, 1}, {0, 1}})->UseRealTime();

// RMSNorm of as many elements; its forward pass keeps no raw copy. Argument 0: 1 for the backward
// pass; 1: columns of a row.
void BM_RmsNormOfAsMany(benchmark::State& state) {
  const int64_t columns = state.range(1), rows = kRows * kColumns / columns;
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {rows, columns}), y(DType::kF32, {rows, columns}),
      w(DType::kF32, {columns}), rstd(DType::kF32, {rows}), dw(DType::kF32, {columns});
  FillNormal(x, 1);
  FillNormal(y, 2);
  FillConstant(w, 1);
  FillConstant(dw, 0);
  (void)RmsNormForward(ctx, x, {}, w, 1e-5, 0, {}, x, rstd);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)RmsNormBackward(ctx, x, y, w, 0, rstd, false, x, dw);
    } else {
      (void)RmsNormForward(ctx, x, {}, w, 1e-5, 0, {}, y, rstd);
    }
  }
  state.SetBytesProcessed(state.iterations() * (state.range(0) ? 3 : 2) * kRows * kColumns *
                          sizeof(float));
}
BENCHMARK(BM_RmsNormOfAsMany)->ArgsProduct({{0, 1}, {kHeadDim, kColumns}})->UseRealTime();

}  // namespace
}  // namespace strake
