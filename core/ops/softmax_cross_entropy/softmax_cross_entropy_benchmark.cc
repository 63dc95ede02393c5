#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::FillTokens;
using testing::TestContext;
using testing::TestTensor;

enum Pass { kForward, kBackward, kCappedBackward, kSlicedForward };

// Arguments: the pass, rows, columns. The sliced forward pass is that of a single slice. The
// backward pass works in place, so its later iterations get gradients as logits: values near 0, at
// the same cost.
void BM_SoftmaxCrossEntropy(benchmark::State& state) {
  const int64_t pass = state.range(0), rows = state.range(1), columns = state.range(2);
  const VocabSlice vocab = {.vocab_size = columns};
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor logits(DType::kF32, {rows, columns}), targets(DType::kI32, {rows}),
      loss(DType::kF32, {rows}), lse(DType::kF32, {rows}), max(DType::kF32, {rows}),
      sums(DType::kF32, {2, rows});
  FillNormal(logits, 1);
  FillTokens(targets, 2, columns);
  (void)SoftmaxCrossEntropyForward(ctx, logits, targets, columns, loss, lse);
  for (auto _ : state) {
    if (pass == kForward) {
      (void)SoftmaxCrossEntropyForward(ctx, logits, targets, columns, loss, lse);
    } else if (pass == kBackward || pass == kCappedBackward) {
      const double softcap = pass == kCappedBackward ? 30 : 0;
      (void)SoftmaxCrossEntropyBackward(ctx, targets, lse, 1, softcap, vocab, logits);
    } else {
      (void)SoftmaxSliceMax(ctx, logits, vocab, max);
      (void)SoftmaxSliceSums(ctx, logits, targets, vocab, max, sums);
      (void)SoftmaxCrossEntropyFromSums(ctx, targets, max, sums, loss, lse);
    }
  }
  const int64_t matrices = pass == kForward ? 1 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * rows * columns * sizeof(float));
}
BENCHMARK(BM_SoftmaxCrossEntropy)
    ->ArgsProduct({{kForward, kBackward, kCappedBackward, kSlicedForward}, {256}, {50257}})
    ->ArgsProduct({{kForward, kBackward, kCappedBackward, kSlicedForward}, {4096}, {256}})
    ->UseRealTime();

}  // namespace
}  // namespace strake
