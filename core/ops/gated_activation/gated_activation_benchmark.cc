#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/gated_activation/gated_activation.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Argument 0: 1 for the backward pass; 1 and 2: rows and columns of y; 3: the kind.
void BM_GatedActivation(benchmark::State& state) {
  const int64_t rows = state.range(1), columns = state.range(2);
  const ActivationKind kind = kActivationKinds[state.range(3)];
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor gate_up(DType::kF32, {rows, 2 * columns}), dgate_up(DType::kF32, {rows, 2 * columns}),
      y(DType::kF32, {rows, columns});
  FillNormal(gate_up, 1);
  FillNormal(y, 2);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)GatedActivationBackward(ctx, kind, y, gate_up, dgate_up);
    } else {
      (void)GatedActivationForward(ctx, kind, gate_up, y);
    }
  }
  const int64_t matrices = state.range(0) ? 5 : 3;
  state.SetBytesProcessed(state.iterations() * matrices * rows * columns * sizeof(float));
}
BENCHMARK(BM_GatedActivation)
    ->ArgsProduct({{0, 1}, {256, 4096}, {2048}, {0, 1, 2, 3}})
    ->UseRealTime();

}  // namespace
}  // namespace strake
