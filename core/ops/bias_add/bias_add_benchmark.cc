#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/bias_add/bias_add.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; 1 and 2: rows and columns.
void BM_BiasAdd(benchmark::State& state) {
  const int64_t rows = state.range(1), columns = state.range(2);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {rows, columns}), bias(DType::kF32, {columns});
  FillConstant(x, 0);
  FillConstant(bias, 0);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)BiasAddBackward(ctx, x, bias);
    } else {
      (void)BiasAddForward(ctx, x, bias, x);
    }
  }
  const int64_t matrices = state.range(0) ? 1 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * x->num_bytes());
}
BENCHMARK(BM_BiasAdd)->ArgsProduct({{0, 1}, {256, 4096}, {768, 3072}})->UseRealTime();

}  // namespace
}  // namespace strake
