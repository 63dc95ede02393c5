// A rank's share of context-parallel attention, next to the attention of whole sequences.
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "benchmark/benchmark.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/attention/partial_attention.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// One of two ranks: chunks 0 and 3 of the 4 of a sequence of seq_len tokens. Its keys are all of
// the sequence's, as they come around the ring.
struct HalfOfSequence {
  explicit HalfOfSequence(const AttentionShape& whole) : shape(whole) {
    shape.seq_len = whole.seq_len / 2;
    chunk = whole.seq_len / 4;
  }
  template <typename Call>
  void ForEachCall(const Call& call) const {
    for (const int64_t row : {int64_t{0}, chunk}) {
      const int64_t own = row == 0 ? 0 : 3;
      for (int64_t key = own; key >= 0; --key) {
        const PartialAttention part = {
            shape, 4 * chunk, {row, own * chunk, chunk}, {key * chunk, key * chunk, chunk}};
        CHECK_EQ(call(part, key != own), absl::OkStatus());
      }
    }
  }

  AttentionShape shape;
  int64_t chunk = 0;
};

// Argument 0: 1 for the backward pass; then 1 for the half, 0 for the whole, and seq_len,
// num_heads, num_kv_heads, head_dim, window.
void BM_HalfOfSequence(benchmark::State& state) {
  const bool backward = state.range(0) != 0, half = state.range(1) != 0;
  const AttentionShape whole{
      1, state.range(2), state.range(3), state.range(4), state.range(5), state.range(6)};
  const HalfOfSequence part(whole);
  const int64_t rows = half ? part.shape.seq_len : whole.seq_len;
  const int64_t H = whole.num_heads, KV = whole.num_kv_heads, D = whole.head_dim;
  TestContext ctx(OpSet::kAuto, /*num_threads=*/1);
  ctx.context().arena().set_poison(false);
  TestTensor qkv(DType::kF32, {rows, (H + 2 * KV) * D}), dqkv(DType::kF32, qkv->shape()),
      kv(DType::kF32, {whole.seq_len, 2 * KV * D}), dkv(DType::kF32, kv->shape()),
      y(DType::kF32, {rows, H * D}), dy(DType::kF32, {rows, H * D}), dq(DType::kF32, {rows, H * D}),
      lse(DType::kF32, {1, H, rows});
  FillNormal(qkv, 1);
  FillNormal(kv, 2);
  FillNormal(dy, 3);
  testing::FillConstant(dq, 0);
  testing::FillConstant(dkv, 0);
  const auto forward = [&] {
    if (!half) {
      CHECK_EQ(CausalAttentionForward(ctx, qkv, whole, y, lse), absl::OkStatus());
      return;
    }
    part.ForEachCall([&](const PartialAttention& call, bool merge) {
      return PartialAttentionForward(ctx, qkv, kv, call, merge, y, lse);
    });
  };
  const auto gradients = [&] {
    if (!half) {
      CHECK_EQ(CausalAttentionBackward(ctx, dy, qkv, y, lse, whole, dqkv), absl::OkStatus());
      return;
    }
    part.ForEachCall([&](const PartialAttention& call, bool) {
      return PartialAttentionBackward(ctx, dy, qkv, kv, y, lse, call, dq, dkv);
    });
  };
  forward();
  for (auto _ : state) backward ? gradients() : forward();
}
BENCHMARK(BM_HalfOfSequence)
    ->ArgNames({"backward", "half", "T", "H", "KV", "D", "W"})
    ->ArgsProduct({{0, 1}, {0, 1}, {4096}, {12}, {12}, {64}, {0, 256}});

}  // namespace
}  // namespace strake
