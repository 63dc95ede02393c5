#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; then batch, seq_len, num_heads, num_kv_heads, head_dim,
// window, and the length of documents (0: none), which divides seq_len.
void BM_CausalAttention(benchmark::State& state) {
  const AttentionShape shape{state.range(1), state.range(2), state.range(3),
                             state.range(4), state.range(5), state.range(6)};
  const int64_t tokens = shape.batch * shape.seq_len;
  const int64_t columns = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
  TestContext ctx(OpSet::kAuto, NumUsableCores());
  ctx.context().arena().set_poison(false);
  TestTensor qkv(DType::kF32, {tokens, columns}), dqkv(DType::kF32, {tokens, columns}),
      y(DType::kF32, {tokens, shape.num_heads * shape.head_dim}),
      dy(DType::kF32, {tokens, shape.num_heads * shape.head_dim}),
      lse(DType::kF32, {shape.batch, shape.num_heads, shape.seq_len});
  FillNormal(qkv, 1);
  FillNormal(dy, 2);
  const int64_t length = state.range(7);
  const std::vector<int64_t> lengths(length == 0 ? 0 : tokens / length, length);
  const TestTensor positions(DType::kI32, {tokens});
  Documents documents;
  if (length != 0) {
    CHECK(SetDocumentPositions(lengths, shape.seq_len, positions).ok());
    documents = {positions, lengths};
  }
  CHECK(CausalAttentionForward(ctx, qkv, shape, y, lse, documents).ok());
  for (auto _ : state) {
    if (state.range(0)) {
      (void)CausalAttentionBackward(ctx, dy, qkv, y, lse, shape, dqkv, documents);
    } else {
      (void)CausalAttentionForward(ctx, qkv, shape, y, lse, documents);
    }
  }
  AttentionShape counted = shape;
  if (length != 0) {
    counted.batch = lengths.size();
    counted.seq_len = length;
  }
  const double forward_flops =
      4.0 * counted.batch * counted.num_heads * counted.head_dim * counted.NumPairs();
  state.counters["flops"] = benchmark::Counter(forward_flops * (state.range(0) ? 2.5 : 1),
                                               benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_CausalAttention)
    ->ArgNames({"backward", "B", "T", "H", "KV", "D", "W", "document"})
    ->ArgsProduct({{0, 1}, {4}, {64, 256}, {12}, {12}, {64}, {0}, {0}})
    ->ArgsProduct({{0, 1}, {1}, {1024}, {12}, {12}, {64}, {0}, {0, 1, 16, 128, 1024}})
    ->ArgsProduct({{0, 1}, {1}, {4096}, {12}, {12}, {64}, {0, 256}, {0}})
    ->ArgsProduct({{0, 1}, {16}, {128}, {4}, {4}, {32}, {0}, {0}})
    ->ArgsProduct({{0, 1}, {1}, {512}, {32}, {8}, {64}, {0}, {0}})
    ->UseRealTime();

}  // namespace
}  // namespace strake
