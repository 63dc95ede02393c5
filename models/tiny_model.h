// The smallest models that have every feature of their family.
#ifndef STRAKE_MODELS_TINY_MODEL_H_
#define STRAKE_MODELS_TINY_MODEL_H_

#include "models/families/family.h"
#include "models/families/gpt2.h"
#include "models/model_config.h"

namespace strake::testing {

// Two layers. The weights are so large that every gradient is far from 0.
inline ModelConfig TinyConfig(const ModelFamily* family, bool tied) {
  const bool gpt2 = family == &kGpt2Family;
  ModelConfig c = family->new_config();
  c.vocab_size = 7;
  c.max_positions = 6;
  c.hidden_size = 8;
  c.num_layers = 2;
  c.num_heads = 2;
  c.num_kv_heads = gpt2 ? 2 : 1;
  c.head_dim = gpt2 ? 4 : 6;  // Llama's need not be hidden / heads
  c.intermediate_size = 10;
  c.tie_word_embeddings = tied;
  c.initializer_range = 0.4;
  if (!gpt2) c.attention_kinds[0].rope->scaling = RopeWavelengthScaling{2, 1, 4, 8};
  return c;
}

}  // namespace strake::testing

#endif  // STRAKE_MODELS_TINY_MODEL_H_
