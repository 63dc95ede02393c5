#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/device/fma_peak.h"
#include "core/device/memory_stream.h"
#include "core/ops/matmul/matmul.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::TestContext;
using testing::TestTensor;

enum Product { kForward, kInputGradient, kWeightGradient };

// c = a b for x [rows, in] and weight [in, out]: a [M, K] and b [K, N] as they are stored.
struct Layer {
  Layer(Product product, bool transposed, int64_t rows, int64_t in, int64_t out) {
    if (product == kForward) {
      a = {rows, in}, b = {in, out}, c = {rows, out};
      options.transpose_b = transposed;
    } else if (product == kInputGradient) {
      a = {rows, out}, b = {out, in}, c = {rows, in};
      options.transpose_b = !transposed;
    } else {
      a = {in, rows}, b = {rows, out}, c = {in, out};
      if (transposed) a = {out, rows}, b = {rows, in}, c = {out, in};
      options.transpose_a = options.accumulate = true;
    }
    if (options.transpose_a) std::swap(a[0], a[1]);
    if (options.transpose_b) std::swap(b[0], b[1]);
  }
  Shape a, b, c;
  MatmulOptions options;
};

// A layer's products: `product`, whether the weight is stored [out, in], tokens, in, out. Reports
// the share of the FMA peak, which is measured just before.
void BM_Layer(benchmark::State& state, OpSet op_set) {
  const TestContext test(op_set, NumUsableCores());
  const Context& ctx = test;
  const Layer layer(static_cast<Product>(state.range(0)), state.range(1), state.range(2),
                    state.range(3), state.range(4));
  TestTensor a(DType::kF32, layer.a), b(DType::kF32, layer.b), c(DType::kF32, layer.c);
  FillConstant(a, 1);
  FillConstant(b, 1);
  FillConstant(c, 0);
  (void)Matmul(ctx, a, b, layer.options, c);
  const double peak = MeasureFmaPeakFlops(ctx.team());
  for (auto _ : state) (void)Matmul(ctx, a, b, layer.options, c);
  const double flops = 2.0 * state.range(2) * state.range(3) * state.range(4) * state.iterations();
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(flops / peak, benchmark::Counter::kIsRate);
}

// The layers of GPT-2 124M, of SmolLM2 135M, and of train's default model and batch.
void Layers(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseRealTime()->Unit(benchmark::kMillisecond);
  for (int64_t product : {kForward, kInputGradient, kWeightGradient}) {
    benchmark->Args({product, 0, 256, 768, 2304});
    benchmark->Args({product, 0, 256, 768, 768});
    benchmark->Args({product, 0, 256, 768, 3072});
    benchmark->Args({product, 0, 256, 3072, 768});
    benchmark->Args({product, 1, 256, 768, 50257});
    benchmark->Args({product, 0, 512, 576, 960});
    benchmark->Args({product, 0, 512, 576, 576});
    benchmark->Args({product, 0, 512, 576, 3072});
    benchmark->Args({product, 0, 512, 1536, 576});
    benchmark->Args({product, 1, 512, 576, 49152});
    benchmark->Args({product, 0, 2048, 128, 256});
    benchmark->Args({product, 0, 2048, 128, 128});
    benchmark->Args({product, 0, 2048, 128, 768});
    benchmark->Args({product, 0, 2048, 384, 128});
  }
}
BENCHMARK_CAPTURE(BM_Layer, auto, OpSet::kAuto) -> Apply(Layers);
BENCHMARK_CAPTURE(BM_Layer, reference, OpSet::kReference)->Args({kForward, 0, 256, 768, 3072});

// Generation: multiplies a few rows by a stack of weights (stored [in, out], or [out, in] when
// `transposed`) that no cache holds, so that memory is the limit. Argument 0: transposed; 1: rows;
// 2 and 3: in and out.
void BM_FewRows(benchmark::State& state) {
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  constexpr int64_t kStackBytes = int64_t{1} << 28;
  const int64_t rows = state.range(1), in = state.range(2), out = state.range(3);
  const int64_t count = std::max<int64_t>(1, kStackBytes / (in * out * sizeof(float)));
  TestTensor x(DType::kF32, {rows, in}), y(DType::kF32, {rows, out}),
      weights(DType::kF32, {count, in * out});
  FillConstant(x, 1);
  FillConstant(weights, 1);
  const bool transposed = state.range(0);
  int64_t i = 0;
  for (auto _ : state) {
    const Tensor weight =
        weights->Rows(i, i + 1).Reshape(transposed ? Shape{out, in} : Shape{in, out});
    (void)Matmul(ctx, x, weight, {.transpose_b = transposed}, y);
    i = (i + 1) % count;
  }
  state.SetBytesProcessed(state.iterations() * in * out * sizeof(float));
}
BENCHMARK(BM_FewRows)
    ->ArgsProduct({{0}, {1, 2, 4, 8}, {768}, {2304, 3072}})
    ->ArgsProduct({{0}, {1, 2, 4, 8}, {3072}, {768}})
    ->ArgsProduct({{1}, {1, 2, 4, 8}, {768}, {50257}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// The baseline of BM_FewRows: reads as many bytes.
void BM_Read(benchmark::State& state) {
  ThreadTeam team(NumUsableCores());
  constexpr size_t kBytes = size_t{1} << 28;
  MemoryStream stream(&team, kBytes);
  for (auto _ : state) benchmark::DoNotOptimize(stream.MeasureReadPass());
  state.SetBytesProcessed(state.iterations() * kBytes);
}
BENCHMARK(BM_Read)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace strake
