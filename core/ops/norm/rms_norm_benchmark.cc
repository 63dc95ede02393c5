#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/norm/rms_norm.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; 1 and 2: rows and columns.
void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = state.range(1), columns = state.range(2);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {rows, columns}), w(DType::kF32, {columns}),
      y(DType::kF32, {rows, columns}), rstd(DType::kF32, {rows}), dw(DType::kF32, {columns});
  FillNormal(x, 1);
  FillNormal(w, 2);
  FillConstant(dw, 0);
  (void)RmsNormForward(ctx, x, {}, w, 1e-5, 0, {}, y, rstd);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)RmsNormBackward(ctx, x, x, w, 0, rstd, false, y, dw);
    } else {
      (void)RmsNormForward(ctx, x, {}, w, 1e-5, 0, {}, y, rstd);
    }
  }
  const int64_t matrices = state.range(0) ? 3 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * rows * columns * sizeof(float));
}
BENCHMARK(BM_RmsNorm)->ArgsProduct({{0, 1}, {256, 4096}, {768, 2048}})->UseRealTime();

}  // namespace
}  // namespace strake
