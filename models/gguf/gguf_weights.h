// A model's weights as tensors of a GGUF file.
//
// Matrices are [out, in] there, tables [tokens, features]. What a family's own files have in one
// tensor (queries, keys and values, or gate and up) is one here too, the parts one after the other.
// Weights of norms are what the norm multiplies by, 1 + w where the model adds 1.
#ifndef STRAKE_MODELS_GGUF_GGUF_WEIGHTS_H_
#define STRAKE_MODELS_GGUF_GGUF_WEIGHTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "models/gguf/gguf_writer.h"
#include "models/model_config.h"

namespace strake {

// A tensor of the file, and where its values come from.
struct GgufTensor {
  GgufTensorSpec spec;
  std::vector<float> values = {};    // those of a tensor that is no weight
  int parameter = -1;                // else columns of this parameter,
  int64_t column = 0;                // from here on,
  bool transposed = false;           // which are the rows of a matrix;
  int64_t interleaved_head_dim = 0;  // rows (i, i + D/2) of each head become (2i, 2i + 1);
  float offset = 0;                  // and this is added
};

// The tensors of the `whole` model, an arena that may be a dry run's, in the order of its
// parameters. Vectors, norms, the table of positions and divisors of RoPE are F32; other tensors
// are of `dtype`, but for matrices that are no multiple of 32 wide, which are F16 instead of Q8_0.
// CHECKs that AddGgufModelKeys() takes the model.
std::vector<GgufTensor> GgufTensorsOf(const ModelConfig& config, const ParameterArena& whole,
                                      GgufDType dtype);

// Writes the tensors' values. Fetches one parameter after the other: the f32 values of a whole one,
// [its number of elements]. They may be freed at the next call.
absl::Status WriteGgufTensors(const std::vector<GgufTensor>& tensors, const ParameterArena& whole,
                              absl::FunctionRef<absl::StatusOr<Tensor>(int parameter)> fetch,
                              GgufWriter* writer);

}  // namespace strake

#endif  // STRAKE_MODELS_GGUF_GGUF_WEIGHTS_H_
