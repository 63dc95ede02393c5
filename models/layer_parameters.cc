#include "models/layer_parameters.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {

std::string LayerName(const ModelConfig& config, int64_t index) {
  return absl::StrCat(config.family == ModelFamily::kGpt2 ? "transformer.h." : "model.layers.",
                      index, ".");
}

double ResidualStddev(const ModelConfig& config) {
  if (config.family == ModelFamily::kLlama) return config.initializer_range;
  return config.initializer_range / std::sqrt(2.0 * config.num_layers);
}

ReplicatedGrad ResidualGrad(const TensorParallel& tp) {
  return tp.sequence_parallel() ? ReplicatedGrad::kPartial : ReplicatedGrad::kWhole;
}

Norm AddNorm(const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
             const std::string& name) {
  const int64_t c = config.hidden_size;
  Parameter* weight = AddReplicatedParameter({{name + ".weight", c}}, {c}, tp, ResidualGrad(tp),
                                             false, {.mean = 1}, arena);
  const Parameter* bias = nullptr;
  if (config.family == ModelFamily::kGpt2) {
    bias =
        AddReplicatedParameter({{name + ".bias", c}}, {c}, tp, ResidualGrad(tp), false, {}, arena);
  }
  return Norm(weight, bias, config.norm_eps);
}

ColumnParallelLinear AddColumnParallelLinear(
    const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
    const std::vector<std::pair<std::string, int64_t>>& parts,
    const std::vector<ShardSegment>& segments, int64_t in_features, double stddev) {
  const bool gpt2 = config.family == ModelFamily::kGpt2;
  std::vector<ParameterSegment> weights, biases;
  int64_t columns = 0;
  for (const auto& [name, width] : parts) {
    weights.push_back({name + ".weight", width, /*transposed=*/!gpt2});
    biases.push_back({name + ".bias", width});
    columns += width;
  }
  const auto shards_of = [&](const Shape& shape) {
    const auto shards = WeightShards::Split(shape, -1, segments, tp.size());
    CHECK(shards.ok()) << shards.status();
    return *shards;
  };
  Parameter* weight = AddShardedParameter(weights, shards_of({in_features, columns}), tp, true,
                                          {.stddev = stddev}, arena);
  const Parameter* bias =
      gpt2 ? AddShardedParameter(biases, shards_of({columns}), tp, false, {}, arena) : nullptr;
  return ColumnParallelLinear(weight, bias, tp);
}

RowParallelLinear AddRowParallelLinear(const ModelConfig& config, const TensorParallel& tp,
                                       ParameterArena* arena, const std::string& name,
                                       const ShardSegment& rows, double stddev) {
  const bool gpt2 = config.family == ModelFamily::kGpt2;
  const int64_t c = config.hidden_size;
  const auto shards = WeightShards::Split({rows.size(), c}, 0, {rows}, tp.size());
  CHECK(shards.ok()) << shards.status();
  Parameter* weight = AddShardedParameter({{name + ".weight", c, /*transposed=*/!gpt2}}, *shards,
                                          tp, true, {.stddev = stddev}, arena);
  const Parameter* bias = gpt2 ? AddReplicatedParameter({{name + ".bias", c}}, {c}, tp,
                                                        ResidualGrad(tp), false, {}, arena)
                               : nullptr;
  return RowParallelLinear(weight, bias, tp);
}

}  // namespace strake
