// Between a parameter arena and files in Hugging Face's names and layouts.
//
// A segment of a parameter is one tensor there: columns of the parameter's last dimension, stored
// [out, in] where the segment is `transposed` and [in, out] otherwise; one-dimensional parameters
// are cut the same way.
#ifndef STRAKE_MODELS_HF_CHECKPOINT_H_
#define STRAKE_MODELS_HF_CHECKPOINT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"

namespace strake {

// Fills the arena's values (f32, f64 or bf16) from `directory`: model.safetensors, or the shards of
// model.safetensors.index.json; F32, F16 or BF16. GPT-2's names may lack "transformer."; mask and
// rotary buffers, and the lm_head.weight of a model whose embedding is tied, are ignored.
//
// An error, naming file and tensor, for a file that is missing or broken, a shard that is not what
// the index says, and a tensor that is missing, unknown or of another shape or dtype; the arena is
// not touched until all of that has been checked.
absl::Status LoadWeights(const std::string& directory, ParameterArena& arena);

// An array over the arena's index space: its values, or a moment of the optimizer.
struct ArenaArray {
  std::string suffix;  // of the tensors' names: "" for weights, ".exp_avg" for a first moment
  Tensor values;       // [num_elements], f32, f64 or bf16
};

// Writes a tensor NAME + suffix, as f32, for every segment and array; equal contents give equal
// bytes. An error, naming path and reason, when the disk is full or fails.
absl::Status SaveArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays);

// The inverse of SaveArrays(): the file holds exactly those tensors, as F32, or it is an error and
// the arrays stay as they were.
absl::Status LoadArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays);

}  // namespace strake

#endif  // STRAKE_MODELS_HF_CHECKPOINT_H_
