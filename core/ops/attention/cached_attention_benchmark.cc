#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/attention/cached_attention.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Arguments: new tokens, past, num_heads, num_kv_heads, head_dim. Counts the bytes of the cache.
void BM_CachedAttention(benchmark::State& state) {
  const int64_t past = state.range(1);
  const AttentionShape shape{1, state.range(0), state.range(2), state.range(3), state.range(4)};
  const int64_t kv_columns = shape.num_kv_heads * shape.head_dim;
  const int64_t q_columns = shape.num_heads * shape.head_dim, rows = past + shape.seq_len;
  TestContext ctx(OpSet::kAuto, NumUsableCores());
  ctx.context().arena().set_poison(false);
  TestTensor qkv(DType::kF32, {shape.seq_len, q_columns + 2 * kv_columns}),
      k_cache(DType::kF32, {rows, kv_columns}), v_cache(DType::kF32, {rows, kv_columns}),
      y(DType::kF32, {shape.seq_len, q_columns});
  FillNormal(qkv, 1);
  FillNormal(k_cache, 2);
  FillNormal(v_cache, 3);
  for (auto _ : state) {
    (void)CachedAttentionForward(ctx, qkv, shape, past, k_cache, v_cache, y);
  }
  state.SetBytesProcessed(state.iterations() * 2 * rows * kv_columns * sizeof(float));
}
BENCHMARK(BM_CachedAttention)
    ->ArgNames({"tokens", "past", "H", "KV", "D"})
    ->ArgsProduct({{1, 4, 8}, {1023}, {12}, {12}, {64}})
    ->ArgsProduct({{1, 4, 8}, {4095}, {32}, {8}, {64}})
    ->UseRealTime();

}  // namespace
}  // namespace strake
