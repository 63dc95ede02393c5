#include "models/sliced_models.h"

#include <utility>

#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/families/phi3.h"
#include "models/transformer.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake::testing {
namespace {

// GPT-2 whose heads alternate in [out, in] matrices, as in GPT-NeoX.
const ModelFamily& InterleavedFamily() {
  static const ModelFamily family = [] {
    ModelFamily interleaved = kGpt2Family;
    interleaved.tensors.transposed = interleaved.tensors.interleaved_heads = true;
    return interleaved;
  }();
  return family;
}

}  // namespace

std::vector<ModelConfig> SlicedModels(int64_t num_kv_heads) {
  const auto sized = [](const ModelFamily& family, int64_t kv_heads, int64_t head_dim) {
    ModelConfig c = family.new_config();
    c.family = &family;
    c.vocab_size = 11;
    c.max_positions = 5;
    c.hidden_size = c.num_heads = 24;
    c.num_kv_heads = kv_heads;
    c.head_dim = head_dim;
    c.num_layers = 2;
    c.intermediate_size = 48;
    return c;
  };
  const ModelConfig gpt2 = sized(kGpt2Family, 24, 1), llama = sized(kLlamaFamily, num_kv_heads, 2);
  const ModelConfig fused = sized(kPhi3Family, num_kv_heads, 2);
  const ModelConfig interleaved = sized(InterleavedFamily(), 24, 2);
  std::vector<ModelConfig> models = {gpt2, llama, interleaved, fused, gpt2, llama};
  for (size_t i = 3; i < models.size(); ++i) models[i].tie_word_embeddings = false;
  return models;
}

std::unique_ptr<ParameterArena> SlicedParameters(const ModelConfig& config, int rank,
                                                 int num_ranks) {
  auto base = std::make_unique<ParameterArena>(), adapters = std::make_unique<ParameterArena>();
  const Transformer model(config, config.max_positions, base.get(),
                          TensorParallel::Planned(rank, num_ranks), LogitsChunk(),
                          ActivationRecompute::kNone, adapters.get());
  return config.lora.enabled() ? std::move(adapters) : std::move(base);
}

void ForEachElement(
    const ParameterArena& arena,
    absl::FunctionRef<void(const ParameterSegment& segment, int64_t full_index, int64_t index)>
        visit) {
  for (const ParameterRecord& record : arena.records()) {
    int64_t first_column = record.offset;
    for (const ParameterSegment& segment : record.segments) {
      const SegmentSlice& slice = segment.slice;
      for (int64_t r = 0; r < slice.num_rows; ++r) {
        for (int64_t c = 0; c < segment.columns; ++c) {
          visit(segment, (slice.row_begin + r) * slice.full_columns + slice.column_begin + c,
                first_column + r * record.shape().back() + c);
        }
      }
      first_column += segment.columns;
    }
  }
}

}  // namespace strake::testing
