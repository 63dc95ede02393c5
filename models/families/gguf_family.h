// GgufFamily: what llama.cpp's architecture for a family of models computes, as data.
//
// A GGUF file names an architecture, whose features the reading program has built in. So a model of
// the family can be written as far as its features are among these. Facts: llama.cpp,
// src/llama-model.cpp, src/models and convert_hf_to_gguf.py.
#ifndef STRAKE_MODELS_FAMILIES_GGUF_FAMILY_H_
#define STRAKE_MODELS_FAMILIES_GGUF_FAMILY_H_

#include <cstdint>

#include "core/ops/activation/activation_kind.h"

namespace strake {

// Whether models of an architecture have something.
enum class GgufUse { kNever, kMay, kAlways };

// The RoPE of layers with a window, beside that of the others.
enum class GgufWindowRope {
  kSame,
  kUnscaled,  // its base, without scaling
  kOwnBase,   // a base of its own, "rope.freq_base_swa", without scaling
};

struct GgufFamily {
  const char* architecture = nullptr;  // "general.architecture"; null: GGUF lacks the family
  // RoPE rotates pairs (2i, 2i + 1) of a head's features there, so rows of the matrices of queries
  // and keys change places.
  bool interleaved_rope = false;
  // Heads times their size may differ from the hidden size.
  bool free_head_dim = false;
  ActivationKind activation = ActivationKind::kSilu;
  GgufUse qkv_bias = GgufUse::kNever;
  GgufUse attention_output_bias = GgufUse::kNever;
  GgufUse mlp_bias = GgufUse::kNever;
  // A matrix of the head of its own. kAlways: with tied embeddings it is a copy of them.
  GgufUse head = GgufUse::kMay;
  GgufUse score_softcap = GgufUse::kNever;
  GgufUse logits_softcap = GgufUse::kNever;
  // Layers p - 1, 2 p - 1, ... have no window, and the others have one, for this p or another that
  // the file says. 0: the architecture has no windows.
  int64_t window_period = 0;
  GgufWindowRope window_rope = GgufWindowRope::kSame;
  int64_t no_rope_period = 0;  // layers p - 1, 2 p - 1, ... are not rotated; 0: all are
  bool rope_freqs = false;     // has llama3's scaling, as a tensor of divisors
  bool rope_factors = false;   // has longrope's scaling, as two such tensors
  bool scales = false;         // has the scales of embeddings, scores, branches and logits as keys
  bool gemma_scales = false;   // embeddings times sqrt(hidden size), and the scores' scale below
  int64_t large_num_layers = 0;  // the model whose scores are divided by sqrt(hidden size / heads)
  bool parallel_residual = false;  // has it as a key
};

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GGUF_FAMILY_H_
