// ActivationRecompute: which activations are kept from the forward pass, and which are recomputed
// in the backward pass. The bits are the same in all modes.
//
//   of a layer                          kNone   kSelective   kFull
//   input of each half [R, C]           kept    kept         kept
//   output of each norm [N, C]          kept    recomputed   recomputed
//   qkv, attention                      kept    kept         recomputed
//   up, or gate and up                  kept    kept         recomputed
//   GELU, SwiGLU                        kept    recomputed   recomputed
//
// No recomputation needs the output of a half, so no sum over tensor-parallel ranks is repeated;
// with sequence parallelism the all-gather after each norm is repeated. Source: Korthikanti et al.,
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
