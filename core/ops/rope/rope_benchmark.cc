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

// Arguments: tokens, rotated heads (a row has 3/2 as many), head_dim, how many features of each
// head are rotated, and whether pairs are neighbours.
void BM_Rope(benchmark::State& state) {
  const int64_t tokens = state.range(0), num_heads = state.range(1), head_dim = state.range(2),
                rotary_dim = state.range(3);
  const RopeHeads heads = {num_heads, head_dim, state.range(4) != 0};
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor table(DType::kF64, {tokens, rotary_dim}),
      x(DType::kF32, {tokens, num_heads * 3 / 2 * head_dim});
  RopeTable({}, table);
  FillNormal(x, 1);
  for (auto _ : state) (void)RopeForward(ctx, table, heads, tokens, 0, x);
  state.SetBytesProcessed(state.iterations() * 2 * tokens * num_heads * rotary_dim * sizeof(float));
}
BENCHMARK(BM_Rope)
    ->ArgNames({"tokens", "heads", "head_dim", "rotary_dim", "interleaved"})
    ->Args({128, 8, 32, 32, 0})
    ->Args({512, 24, 64, 64, 0})
    ->Args({2048, 40, 128, 128, 0})
    ->Args({512, 24, 64, 16, 0})
    ->Args({512, 24, 64, 64, 1})
    ->UseRealTime();

}  // namespace
}  // namespace strake
