// Locates a failure: the first tensor, in execution order, that holds NaN or infinity.
#ifndef STRAKE_MODELS_NON_FINITE_H_
#define STRAKE_MODELS_NON_FINITE_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "models/transformer.h"

namespace strake {

// Call it after a forward pass of `model` whose loss is not finite, and before its backward pass.
// Searches the weights in the arenas, then the activations, and returns for example "layer 3 qkv,
// element 17 of f32[256, 2304] (nan)". The logits, which are not kept, are recomputed, in the
// memory that they had. "none" where all are finite, and the loss overflowed in its own sum. f32,
// f64 or bf16, on either device.
std::string FirstNonFinite(const Context& ctx, const Transformer& model,
                           absl::Span<const ParameterArena* const> arenas,
                           const TransformerSaved& saved);

// Searches the weights alone, for callers that no longer have the activations.
std::string FirstNonFiniteWeight(absl::Span<const ParameterArena* const> arenas);

// Returns likewise the first gradient, in the order of the backward pass. `grads` are those of
// elements [begin, begin + grads.num_elements()) of the index space. Elements are counted from the
// parameter's first.
std::string FirstNonFiniteGradient(const ParameterArena& parameters, int64_t begin,
                                   const Tensor& grads);

}  // namespace strake

#endif  // STRAKE_MODELS_NON_FINITE_H_
