// ActivationRecompute: which activations are kept from the forward pass, and which are made again
// in the backward pass. Bits are the same, whichever it is.
//
//   of a layer                          kNone   kSelective   kFull
//   input of each half [R, C]           kept    kept         kept
//   output of each norm [N, C]          kept    again        again
//   qkv, attention                      kept    kept         again
//   up, or gate and up                  kept    kept         again
//   GELU, SwiGLU                        kept    again        again
//
// Nothing that is made again needs the output of a half, so no sum over tensor-parallel ranks is
// repeated; with sequence parallelism the all-gather behind each norm is.
// Source: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
// 2022, section 5; what is cheap to make again differs, since attention keeps no probabilities
// here.
#ifndef STRAKE_MODELS_ACTIVATION_RECOMPUTE_H_
#define STRAKE_MODELS_ACTIVATION_RECOMPUTE_H_

#include <cstdint>

namespace strake {

enum class ActivationRecompute : uint8_t { kNone, kSelective, kFull };

}  // namespace strake

#endif  // STRAKE_MODELS_ACTIVATION_RECOMPUTE_H_
