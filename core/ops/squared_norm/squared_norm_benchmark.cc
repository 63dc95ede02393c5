#include "benchmark/benchmark.h"
#include "core/base/exact_sum.h"
#include "core/base/thread_team.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Argument: the number of elements; the larger one exceeds every cache.
void BM_SquaredNorm(benchmark::State& state) {
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {state.range(0)}), sum(DType::kI64, {kExactSumLimbs});
  FillNormal(x, 1);
  FillConstant(sum, 0);
  for (auto _ : state) (void)SquaredNormForward(ctx, x, sum);
  state.SetBytesProcessed(state.iterations() * x->num_bytes());
}
BENCHMARK(BM_SquaredNorm)->Arg(1 << 20)->Arg(1 << 26)->UseRealTime();

}  // namespace
}  // namespace strake
