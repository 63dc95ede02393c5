// LoraConfig: low-rank adapters beside frozen linear layers.
//
//   y = x W + (alpha / rank) (x A) B        A [in, rank], B [rank, out]
//
// Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1.
#ifndef STRAKE_MODELS_LORA_CONFIG_H_
#define STRAKE_MODELS_LORA_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

namespace strake {

struct LoraConfig {
  bool enabled() const { return rank > 0; }

  int64_t rank = 0;  // 0: no adapters, and nothing is frozen
  double alpha = 0;
  // Modules by the last part of their Hugging Face name, as "q_proj"; empty: all of the layers.
  std::vector<std::string> targets = {};

  bool operator==(const LoraConfig&) const = default;
};

}  // namespace strake

#endif  // STRAKE_MODELS_LORA_CONFIG_H_
