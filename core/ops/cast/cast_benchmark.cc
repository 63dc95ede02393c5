#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/cast/cast.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

// Argument: elements.
void BM_CastToBf16(benchmark::State& state) {
  const int64_t size = state.range(0);
  const testing::TestContext ctx(OpSet::kAuto, NumUsableCores());
  testing::TestTensor x(DType::kF32, {size}), y(DType::kBf16, {size});
  testing::FillNormal(x, 1);
  for (auto _ : state) (void)Cast(ctx, x, y);
  state.SetBytesProcessed(state.iterations() * size * (sizeof(float) + sizeof(Bf16)));
}
BENCHMARK(BM_CastToBf16)->Arg(1 << 16)->Arg(1 << 22)->UseRealTime();

}  // namespace
}  // namespace strake
