#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/embedding/position_embedding.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// GPT-2's table. Argument 0: 1 for the backward pass; argument 1: the number of rows.
void BM_PositionEmbedding(benchmark::State& state) {
  constexpr int64_t kPositions = 1024, kColumns = 768, kSeqLen = 64;
  const int64_t rows = state.range(1);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor positions(DType::kF32, {kPositions, kColumns}), y(DType::kF32, {rows, kColumns});
  FillConstant(positions, 0);
  FillNormal(y, 1);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)PositionEmbeddingBackward(ctx, y, kSeqLen, 0, positions);
    } else {
      (void)PositionEmbeddingForward(ctx, positions, kSeqLen, 0, y);
    }
  }
  // The positions' rows stay in the cache.
  const int64_t matrices = state.range(0) ? 1 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * rows * kColumns * sizeof(float));
}
BENCHMARK(BM_PositionEmbedding)->ArgsProduct({{0, 1}, {256, 4096}})->UseRealTime();

}  // namespace
}  // namespace strake
