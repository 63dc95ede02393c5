// Between a parameter arena and files in Hugging Face's names and layouts.
//
// However many ranks train, the files hold one whole model. A segment of a parameter is a tensor
// there, or the slice of one that its SegmentSlice tells: columns of the parameter's last
// dimension, stored [out, in] where the segment is `transposed` and [in, out] otherwise;
// one-dimensional parameters are cut the same way.
#ifndef STRAKE_MODELS_CHECKPOINT_HF_CHECKPOINT_H_
#define STRAKE_MODELS_CHECKPOINT_HF_CHECKPOINT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "models/families/family.h"

namespace strake {

// Fills the arena's values (f32, f64 or bf16, to which they are rounded; on either device) from
// `directory`: model.safetensors, or the shards of model.safetensors.index.json; F32, F16 or BF16.
// Reads its own slice of each tensor alone; what is padding stays as it is. Names in the files may
// lack the optional prefix of `family`; its buffers, and the head of a model whose embedding is
// tied, are ignored.
//
// An error, naming file and tensor, for a file that is missing or broken, a shard that is not what
// the index says, and a tensor that is missing, unknown or of another shape or dtype; the arena is
// not touched until all of that has been checked.
absl::Status LoadWeights(const std::string& directory, const ModelFamily& family,
                         ParameterArena& arena);

// An array over a range of the arena's index space: its values, or a moment of the optimizer.
struct ArenaArray {
  std::string suffix;  // of the tensors' names: "" for weights, ".exp_avg" for a first moment
  Tensor values;       // [end - begin], f32, f64 or bf16, on either device
  int64_t begin = 0;   // in the index space

  int64_t end() const { return begin + values.num_elements(); }
};

// The values of a whole parameter, [its number of elements] in any shape, of one of several arrays,
// on either device. They may go at the next call.
using FetchParameter = absl::FunctionRef<absl::StatusOr<Tensor>(int parameter, int array)>;

// Writes a tensor NAME + suffix for every tensor of the `whole` model, an arena that may be of a
// dry run, and every suffix: values of dtype bf16 as BF16, of any other as F32. Equal contents give
// equal bytes. Fetches each parameter in turn, and of each all arrays in turn. An error, naming
// path and reason, when the disk is full or fails; that of `fetch`. CHECKs that every tensor is
// whole.
absl::Status SaveArrays(const std::string& path, const ParameterArena& whole,
                        const std::vector<std::string>& suffixes, DType dtype,
                        FetchParameter fetch);

// The same for arrays of one dtype over all of the arena.
absl::Status SaveArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays);

// The inverse of SaveArrays(), for the slices and ranges that the arrays hold: the file holds
// exactly those tensors, as F32, or it is an error and the arrays stay as they were.
absl::Status LoadArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays);

}  // namespace strake

#endif  // STRAKE_MODELS_CHECKPOINT_HF_CHECKPOINT_H_
