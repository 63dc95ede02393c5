// ActivationRecompute: which activations are kept from the forward pass, and which are recomputed
// in the backward pass. The bits are the same in all modes.
//
//   of a layer                          kNone   kSelective   kFull
//   input of each half [R, C]           kept    kept         kept
//   output of the norm before it [N, C] kept    recomputed   recomputed
//   qkv, also before its norms          kept    kept         recomputed
//   attention                           kept    kept         recomputed
//   up, or gate and up                  kept    kept         recomputed
//   activation                          kept    recomputed   recomputed
//   input of the norm after it [R, C]   kept    kept         kept
//
// No recomputation needs the output of a half, so no sum of them over tensor-parallel ranks is
// repeated; with sequence parallelism the all-gather after each norm is, and in kFull the sum of
// squares of norms of whole projections. Source: Korthikanti et al.,
// "Reducing Activation Recomputation in Large Transformer Models", 2022, section 5. Which
// activations are cheap to recompute differs from the paper, since attention keeps no probabilities
// here.
#ifndef STRAKE_MODELS_ACTIVATION_RECOMPUTE_H_
#define STRAKE_MODELS_ACTIVATION_RECOMPUTE_H_

#include <cstdint>

namespace strake {

enum class ActivationRecompute : uint8_t { kNone, kSelective, kFull };

}  // namespace strake

#endif  // STRAKE_MODELS_ACTIVATION_RECOMPUTE_H_
