// For tests: models that can be sharded over many ranks, and the contents of their slices by
// definition.
#ifndef STRAKE_MODELS_SLICED_MODELS_H_
#define STRAKE_MODELS_SLICED_MODELS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/memory/parameter_arena.h"
#include "models/model_config.h"

namespace strake::testing {

// GPT-2 and Llama, tied and untied, and models like them whose files have interleaved heads or
// fused tensors. T = 1, 2, 3, 4 and 8 divide their sizes, and only T = 1 the vocabulary; those like
// Llama have `num_kv_heads` key/value heads.
std::vector<ModelConfig> SlicedModels(int64_t num_kv_heads);

// The trained parameters of rank `rank` of `num_ranks`, not allocated: with LoRA, the adapters'.
std::unique_ptr<ParameterArena> SlicedParameters(const ModelConfig& config, int rank,
                                                 int num_ranks);

// Calls visit(segment, full_index, index) for every element that is not padding. `full_index` is
// its row-major index in the whole tensor in our orientation, [in, out]; `index` is its index in
// the arena's index space.
void ForEachElement(
    const ParameterArena& arena,
    absl::FunctionRef<void(const ParameterSegment& segment, int64_t full_index, int64_t index)>
        visit);

}  // namespace strake::testing

#endif  // STRAKE_MODELS_SLICED_MODELS_H_
