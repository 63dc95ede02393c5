#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/fingerprint/fingerprint.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::TestContext;
using testing::TestTensor;

// Argument: the number of rows of 1024 elements; the larger one exceeds every cache.
void BM_Fingerprint(benchmark::State& state) {
  constexpr int64_t kColumns = 1024;
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  TestTensor x(DType::kF32, {state.range(0) * kColumns}), sums(DType::kI64, {kFingerprintSums, 2});
  FillConstant(x, 1);
  const FingerprintBlock block = {
      .place = {.key = 1}, .rows = state.range(0), .columns = kColumns, .stride = kColumns};
  for (auto _ : state) (void)AddFingerprint(ctx, x, block, sums);
  state.SetItemsProcessed(state.iterations() * x->num_elements());
  state.SetBytesProcessed(state.iterations() * x->num_bytes());
}
BENCHMARK(BM_Fingerprint)->Arg(64)->Arg(1 << 16)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace strake
