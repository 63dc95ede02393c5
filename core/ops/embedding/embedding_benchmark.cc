#include "benchmark/benchmark.h"
#include "core/base/thread_team.h"
#include "core/ops/embedding/embedding.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::FillTokens;
using testing::TestContext;
using testing::TestTensor;

// GPT-2's table. Argument 0: 1 for the backward pass; argument 1: the number of tokens.
void BM_Embedding(benchmark::State& state) {
  constexpr VocabSlice kVocab = {.vocab_size = 50257};
  constexpr int64_t kColumns = 768;
  const int64_t num_tokens = state.range(1);
  const TestContext ctx(OpSet::kAuto, NumUsableCores());
  const TensorBuffer table(DType::kF32, {kVocab.vocab_size, kColumns});
  TestTensor tokens(DType::kI32, {num_tokens}), y(DType::kF32, {num_tokens, kColumns});
  FillTokens(tokens, 1, kVocab.vocab_size);
  FillNormal(y, 2);
  // The first write to a page of the table costs more than the pass.
  (void)EmbeddingBackward(ctx, y, tokens, kVocab, table);
  for (auto _ : state) {
    if (state.range(0)) {
      (void)EmbeddingBackward(ctx, y, tokens, kVocab, table);
    } else {
      (void)EmbeddingForward(ctx, tokens, kVocab, table, y);
    }
  }
  const int64_t matrices = state.range(0) ? 3 : 2;
  state.SetBytesProcessed(state.iterations() * matrices * num_tokens * kColumns * sizeof(float));
}
BENCHMARK(BM_Embedding)->ArgsProduct({{0, 1}, {256, 4096}})->UseRealTime();

}  // namespace
}  // namespace strake
