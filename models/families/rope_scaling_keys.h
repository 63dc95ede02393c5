// The keys of `config.json` that hold the scaling of RoPE's frequencies. Which keys a kind needs,
// and what follows from others, is as in transformers' modeling_rope_utils.py.
#ifndef STRAKE_MODELS_FAMILIES_ROPE_SCALING_KEYS_H_
#define STRAKE_MODELS_FAMILIES_ROPE_SCALING_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "core/ops/rope/rope.h"
#include "models/families/hf_keys.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// Sizes that RoPE depends on.
struct RopeSizes {
  int64_t head_dim = 0;
  int64_t max_positions = 0;
};

// What an object of RoPE's parameters needs from outside it.
struct RopeOutside {
  RopeSizes sizes;
  std::optional<int64_t> original_positions;
};

// Reads the scaling of a type, one of "default", "linear", "dynamic", "llama3", "yarn" and
// "longrope".
void ReadRopeScaling(HfKeys& keys, const std::string& type, const RopeOutside& outside,
                     int64_t rotary_dim, RopeConfig* rope);
nlohmann::ordered_json RopeScalingJson(const RopeConfig& rope);
// Older versions of transformers take original_positions from outside alone, and for phi3 refuse
// more keys than these three.
nlohmann::ordered_json OlderLongJson(const RopeLongScaling& scaling, const RopeSizes& sizes);

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_ROPE_SCALING_KEYS_H_
