#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/adamw/adamw.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::TestContext;
using testing::TestTensor;

// Argument: the number of elements. The larger one exceeds every cache; each element is 28 bytes of
// traffic.
void BM_AdamW(benchmark::State& state) {
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  const Shape shape = {state.range(0)};
  TestTensor grad(DType::kF32, shape), weight(DType::kF32, shape), m(DType::kF32, shape),
      v(DType::kF32, shape), scalars(DType::kF32, {kNumAdamWScalars});
  FillConstant(grad, 0.01);
  for (const TestTensor* x : {&weight, &m, &v}) FillConstant(*x, 0.1);
  AdamWStep step = {.lr = 1e-4, .weight_decay = 0.1};
  for (auto _ : state) {
    SetAdamWScalars(step, scalars);
    (void)AdamWUpdate(
        ctx, {.scalars = scalars, .grad = grad, .weight = weight, .exp_avg = m, .exp_avg_sq = v},
        /*weight_decay=*/true);
    ++step.step;
  }
  state.SetItemsProcessed(state.iterations() * shape[0]);
  state.SetBytesProcessed(state.iterations() * shape[0] * 7 * sizeof(float));
}
BENCHMARK(BM_AdamW)->Arg(1 << 16)->Arg(1 << 25)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace strake
