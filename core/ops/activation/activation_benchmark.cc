#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/activation/activation.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; 1 and 2: rows and columns; 3: the kind.
void BM_Activation(benchmark::State& state) {
  const int64_t rows = state.range(1), columns = state.range(2);
  const ActivationKind kind = kActivationKinds[state.range(3)];
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {rows, columns}), dy(DType::kF32, {rows, columns}),
      y(DType::kF32, {rows, columns});
  FillNormal(x, 1);
  FillNormal(dy, 2);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)ActivationBackward(ctx, kind, dy, x, y);
    } else {
      (void)ActivationForward(ctx, kind, x, y);
    }
  }
  const int64_t matrices = state.range(0) ? 3 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * rows * columns * sizeof(float));
}
BENCHMARK(BM_Activation)->ArgsProduct({{0, 1}, {256, 4096}, {3072}, {0, 1, 2, 3}})->UseRealTime();

}  // namespace
}  // namespace strake
