#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/softmax_cross_entropy.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::FillTokens;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; 1 and 2: rows and columns. The
// backward pass works in place, so that its later iterations see gradients for logits: values near
// 0, at the same cost.
void BM_SoftmaxCrossEntropy(benchmark::State& state) {
  const int64_t rows = state.range(1), columns = state.range(2);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor logits(DType::kF32, {rows, columns}), targets(DType::kI32, {rows}),
      loss(DType::kF32, {rows}), lse(DType::kF32, {rows});
  FillNormal(logits, 1);
  FillTokens(targets, 2, columns);
  (void)SoftmaxCrossEntropyForward(ctx, logits, targets, loss, lse);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)SoftmaxCrossEntropyBackward(ctx, targets, lse, 1, logits);
    } else {
      (void)SoftmaxCrossEntropyForward(ctx, logits, targets, loss, lse);
    }
  }
  const int64_t matrices = state.range(0) ? 2 : 1;
  state.SetBytesProcessed(state.iterations() * matrices * rows * columns * sizeof(float));
}
BENCHMARK(BM_SoftmaxCrossEntropy)
    ->ArgsProduct({{0, 1}, {256}, {50257}})
    ->ArgsProduct({{0, 1}, {4096}, {256}})
    ->UseRealTime();

}  // namespace
}  // namespace strake
