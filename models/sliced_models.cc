#include "models/sliced_models.h"

#include "models/transformer.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake::testing {

std::vector<ModelConfig> SlicedModels(int64_t num_kv_heads) {
  ModelConfig gpt2;
  gpt2.vocab_size = 11;
  gpt2.max_positions = 5;
  gpt2.hidden_size = gpt2.num_heads = gpt2.num_kv_heads = 24;
  gpt2.head_dim = 1;
  gpt2.num_layers = 2;
  gpt2.intermediate_size = 48;
  ModelConfig llama = gpt2;
  llama.family = ModelFamily::kLlama;
  llama.num_kv_heads = num_kv_heads;
  llama.head_dim = 2;
  std::vector<ModelConfig> models = {gpt2, llama, gpt2, llama};
  models[2].tie_word_embeddings = models[3].tie_word_embeddings = false;
  return models;
}

std::unique_ptr<ParameterArena> SlicedParameters(const ModelConfig& config, int rank,
                                                 int num_ranks) {
  auto arena = std::make_unique<ParameterArena>();
  const Transformer model(config, config.max_positions, arena.get(),
                          TensorParallel::Planned(rank, num_ranks));
  return arena;
}

void ForEachElement(
    const ParameterArena& arena,
    absl::FunctionRef<void(const ParameterSegment& segment, int64_t full_index, int64_t index)>
        visit) {
  for (const Parameter& parameter : arena.parameters()) {
    int64_t first_column = parameter.offset;
    for (const ParameterSegment& segment : parameter.segments) {
      const SegmentSlice& slice = segment.slice;
      for (int64_t r = 0; r < slice.num_rows; ++r) {
        for (int64_t c = 0; c < segment.columns; ++c) {
          visit(segment, (slice.row_begin + r) * slice.full_columns + slice.column_begin + c,
                first_column + r * parameter.shape.back() + c);
        }
      }
      first_column += segment.columns;
    }
  }
}

}  // namespace strake::testing
