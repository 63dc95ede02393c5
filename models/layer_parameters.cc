#include "models/layer_parameters.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace strake {

std::string LayerName(const ModelConfig& config, int64_t index) {
  return absl::StrCat(config.family == ModelFamily::kGpt2 ? "transformer.h." : "model.layers.",
                      index, ".");
}

double ResidualStddev(const ModelConfig& config) {
  if (config.family == ModelFamily::kLlama) return config.initializer_range;
  return config.initializer_range / std::sqrt(2.0 * config.num_layers);
}

Norm AddNorm(const ModelConfig& config, ParameterArena* arena, const std::string& name) {
  const int64_t c = config.hidden_size;
  const Parameter* weight = arena->Add({{name + ".weight", c}}, {c}, false, {.mean = 1});
  const Parameter* bias = nullptr;
  if (config.family == ModelFamily::kGpt2) bias = arena->Add({{name + ".bias", c}}, {c}, false);
  return Norm(weight, bias, config.norm_eps);
}

Linear AddLinear(const ModelConfig& config, ParameterArena* arena,
                 const std::vector<std::pair<std::string, int64_t>>& parts, int64_t in_features,
                 double stddev) {
  const bool gpt2 = config.family == ModelFamily::kGpt2;
  std::vector<ParameterSegment> weights, biases;
  int64_t columns = 0;
  for (const auto& [name, width] : parts) {
    weights.push_back({name + ".weight", width, /*transposed=*/!gpt2});
    biases.push_back({name + ".bias", width});
    columns += width;
  }
  const Parameter* weight = arena->Add(weights, {in_features, columns}, true, {.stddev = stddev});
  const Parameter* bias = gpt2 ? arena->Add(biases, {columns}, false) : nullptr;
  return Linear(weight, bias);
}

}  // namespace strake
