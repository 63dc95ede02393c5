// The keys of `config.json` that hold RoPE's frequencies, which most families share.
//
// Versions of transformers before 5 have `rope_theta`, `partial_rotary_factor` and `rope_scaling`;
// later ones have one object, `rope_parameters`, and read the older keys too. Which keys a kind of
// scaling needs, and what follows from others, is as in transformers' modeling_rope_utils.py.
#ifndef STRAKE_MODELS_FAMILIES_ROPE_KEYS_H_
#define STRAKE_MODELS_FAMILIES_ROPE_KEYS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/ops/rope/rope.h"
#include "models/families/hf_keys.h"
#include "models/families/rope_scaling_keys.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// What differs between families.
struct RopeKeys {
  double default_theta = 10000;
  const char* theta = "rope_theta";
  // The share of each head that is rotated. Null: the family rotates whole heads, and the usual key
  // must be 1, since versions of transformers differ in what another value means.
  const char* share = nullptr;
  double default_share = 1;
  std::vector<std::string> types = {"default", "linear", "dynamic", "yarn", "longrope", "llama3"};
  // transformers refuses parameters by type of layer.
  bool one_for_all_layers = false;
  // The default of "original_max_position_embeddings" outside the object; 0: none.
  int64_t default_original_positions = 0;
};

// Reads the RoPE of all layers.
RopeConfig ReadRope(HfKeys& keys, const RopeKeys& names, const RopeSizes& sizes);
void WriteRope(const RopeConfig& rope, const RopeKeys& names, const RopeSizes& sizes,
               nlohmann::ordered_json* json);

// RoPEs of layers with a window and of those without.
struct RopeByLayerType {
  RopeConfig windowed, full;
};

// `defaults` have the default thetas. The older keys are `rope_theta` and `rope_scaling`, of full
// layers, and `windowed_theta`. That is null where the family has no such key. There, versions of
// transformers differ in the layers that `rope_theta` is for, and it must be the default.
RopeByLayerType ReadRopeByLayerType(HfKeys& keys, const RopeByLayerType& defaults,
                                    const char* windowed_theta, const RopeSizes& sizes);
void WriteRopeByLayerType(const RopeByLayerType& ropes, const RopeByLayerType& defaults,
                          const char* windowed_theta, nlohmann::ordered_json* json);

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_ROPE_KEYS_H_
