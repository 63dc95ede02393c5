#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/scale/scale.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::TestContext;
using testing::TestTensor;

// Arguments: rows and columns.
void BM_Scale(benchmark::State& state) {
  const int64_t rows = state.range(0), columns = state.range(1);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {rows, columns}), y(DType::kF32, {rows, columns});
  FillNormal(x, 1);
  for (auto _ : state) (void)Scale(ctx, 30, x, y);
  state.SetBytesProcessed(state.iterations() * 2 * rows * columns * sizeof(float));
}
BENCHMARK(BM_Scale)->ArgsProduct({{256, 4096}, {768, 2048}})->UseRealTime();

}  // namespace
}  // namespace strake
