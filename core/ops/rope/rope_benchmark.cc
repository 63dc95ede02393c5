#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/rope/rope.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Arguments: tokens, rotated heads (a row has 3/2 as many), head_dim.
void BM_Rope(benchmark::State& state) {
  const int64_t tokens = state.range(0), heads = state.range(1), head_dim = state.range(2);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor table(DType::kF64, {tokens, head_dim}),
      x(DType::kF32, {tokens, heads * 3 / 2 * head_dim});
  RopeTable({}, table);
  FillNormal(x, 1);
  for (auto _ : state) (void)RopeForward(ctx, table, {heads, head_dim}, tokens, 0, x);
  state.SetBytesProcessed(state.iterations() * 2 * tokens * heads * head_dim * sizeof(float));
}
BENCHMARK(BM_Rope)
    ->ArgNames({"tokens", "heads", "head_dim"})
    ->Args({128, 8, 32})
    ->Args({512, 24, 64})
    ->Args({2048, 40, 128})
    ->UseRealTime();

}  // namespace
}  // namespace strake
