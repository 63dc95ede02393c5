#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/norm/layer_norm.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; 1 and 2: rows and columns.
void BM_LayerNorm(benchmark::State& state) {
  const int64_t rows = state.range(1), columns = state.range(2);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {rows, columns}), w(DType::kF32, {columns}), b(DType::kF32, {columns}),
      y(DType::kF32, {rows, columns}), mean(DType::kF32, {rows}), rstd(DType::kF32, {rows}),
      dw(DType::kF32, {columns}), db(DType::kF32, {columns});
  FillNormal(x, 1);
  FillNormal(w, 2);
  for (const TestTensor* t : {&b, &dw, &db}) FillConstant(*t, 0);
  (void)LayerNormForward(ctx, {.x = x, .weight = w, .bias = b, .y = y, .mean = mean, .rstd = rstd},
                         1e-5);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)LayerNormBackward(ctx,
                              {.dy = x,
                               .x = x,
                               .weight = w,
                               .mean = mean,
                               .rstd = rstd,
                               .dx = y,
                               .dweight = dw,
                               .dbias = db},
                              false);
    } else {
      (void)LayerNormForward(
          ctx, {.x = x, .weight = w, .bias = b, .y = y, .mean = mean, .rstd = rstd}, 1e-5);
    }
  }
  const int64_t matrices = state.range(0) ? 3 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * rows * columns * sizeof(float));
}
BENCHMARK(BM_LayerNorm)->ArgsProduct({{0, 1}, {256, 4096}, {768, 2048}})->UseRealTime();

}  // namespace
}  // namespace strake
