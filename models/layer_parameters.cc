#include "models/layer_parameters.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "core/nn/low_rank_adapter.h"
#include "glog/logging.h"
#include "models/lora_modules.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {
namespace {

double ResidualStddev(const ModelConfig& config) {
  if (!config.scale_residual_init) return config.initializer_range;
  return config.initializer_range / std::sqrt(2.0 * config.num_layers);
}

// What norms add to their weights.
double WeightOffset(const ModelConfig& config) { return config.norm_weight_plus_one ? 1 : 0; }

// The segments of the whole matrix: its tensors, NAME + suffix each.
std::vector<ParameterSegment> Segments(const std::vector<std::pair<std::string, int64_t>>& parts,
                                       const char* suffix, bool transposed) {
  std::vector<ParameterSegment> segments;
  for (const auto& [part, width] : parts) {
    const std::string name = part + suffix;
    if (!segments.empty() && segments.back().name == name) {
      segments.back().columns += width;
    } else {
      segments.push_back({name, width, transposed});
    }
  }
  return segments;
}

// The segments, unit by unit, of a matrix whose one tensor NAME + suffix has unit 0 of every part,
// then unit 1 of every part, and so on.
std::vector<ParameterSegment> InterleavedSegments(const std::string& name,
                                                  const std::vector<ShardSegment>& parts,
                                                  bool transposed) {
  int64_t columns = 0, unit_columns = 0;
  for (const ShardSegment& part : parts) {
    columns += part.size();
    unit_columns += part.unit_size;
  }
  std::vector<ParameterSegment> segments;
  int64_t first_column = 0;
  for (const ShardSegment& part : parts) {
    CHECK_EQ(part.num_units, parts[0].num_units)
        << "[layer_parameters] " << part.name << " interleaved with " << parts[0].name;
    for (int64_t unit = 0; unit < part.num_units; ++unit) {
      segments.push_back(
          {name,
           part.unit_size,
           transposed,
           {.full_columns = columns, .column_begin = unit * unit_columns + first_column}});
    }
    first_column += part.unit_size;
  }
  return segments;
}

// The adapted parts of a layer's columns. Parts of one name have one A.
struct AdaptedColumns {
  std::vector<std::pair<std::string, int64_t>> parts;
  std::vector<ShardSegment> segments;
  std::vector<std::string> names;   // of the adapters
  std::vector<ShardRange> columns;  // of the rank's part of the layer, by adapter
};

AdaptedColumns FindAdaptedColumns(const ModelConfig& config,
                                  const std::vector<std::pair<std::string, int64_t>>& parts,
                                  const std::vector<ShardSegment>& segments,
                                  const std::vector<WeightShards::Piece>& pieces) {
  CHECK_EQ(parts.size(), segments.size()) << "[layer_parameters] parts of " << parts[0].first;
  AdaptedColumns adapted;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!HasAdapter(config.lora, parts[i].first)) continue;
    const int64_t begin = pieces[i].local_begin, end = begin + pieces[i].full.range.size();
    if (i == 0 || parts[i].first != parts[i - 1].first) {
      adapted.names.push_back(parts[i].first);
      adapted.columns.push_back({begin, end});
    }
    adapted.columns.back().end = end;
    adapted.parts.push_back(parts[i]);
    adapted.segments.push_back(segments[i]);
  }
  return adapted;
}

constexpr char kLoraA[] = ".lora_A.weight", kLoraB[] = ".lora_B.weight";

std::string AdapterName(const std::string& module) { return "base_model.model." + module; }

double AdapterScale(const LoraConfig& lora) { return lora.alpha / double(lora.rank); }

WeightInit AdapterInit(int64_t in) { return {.bound = 1 / std::sqrt(double(in))}; }

// A [in, G r], of G adapters side by side; PEFT stores each as [r, in].
std::vector<ParameterSegment> ASegments(const std::vector<std::string>& names, int64_t rank) {
  std::vector<ParameterSegment> segments;
  for (const std::string& name : names) {
    segments.push_back({AdapterName(name) + kLoraA, rank, /*transposed=*/true});
  }
  return segments;
}

WeightShards SplitOrDie(Shape shape, int dim, const std::vector<ShardSegment>& segments,
                        const TensorParallel& tp) {
  auto shards = WeightShards::Split(std::move(shape), dim, segments, tp.size());
  CHECK(shards.ok()) << shards.status();
  return *std::move(shards);
}

}  // namespace

const TensorNames& TensorNamesOf(const ModelConfig& config) {
  CHECK(config.family != nullptr) << "[layer_parameters] the model has no family to name tensors";
  return config.family->tensors;
}

std::string TensorName(const char* pattern, int64_t layer) {
  CHECK(pattern != nullptr) << "[layer_parameters] the family has no name for a tensor of layer "
                            << layer;
  return absl::Substitute(pattern, layer);
}

ReplicatedGrad ResidualGrad(const TensorParallel& tp) {
  return tp.sequence_parallel() ? ReplicatedGrad::kPartial : ReplicatedGrad::kWhole;
}

Norm AddNorm(const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
             const std::string& name) {
  const int64_t c = config.hidden_size;
  const double offset = WeightOffset(config);
  Parameter* weight = AddReplicatedParameter({{name + ".weight", c}}, {c}, tp, ResidualGrad(tp),
                                             false, {.mean = 1 - offset}, arena);
  const Parameter* bias = nullptr;
  if (config.norm == NormKind::kLayerNorm) {
    bias =
        AddReplicatedParameter({{name + ".bias", c}}, {c}, tp, ResidualGrad(tp), false, {}, arena);
  }
  return Norm(weight, bias, config.norm_eps, offset);
}

std::optional<QkNormLayer> AddQkNorm(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                                     ParameterArena* arena) {
  if (c.qk_norm == QkNorm::kNone) return std::nullopt;
  const auto heads = AttentionHeadShard(c.num_heads, c.num_kv_heads, tp.size(), tp.rank());
  CHECK(heads.ok()) << heads.status();
  const bool per_head = c.qk_norm == QkNorm::kPerHead;
  const double offset = WeightOffset(c);
  // A rank has the weights of its heads.
  const auto add_weight = [&](const char* pattern, const ShardSegment& all) {
    const int64_t width = per_head ? c.head_dim : all.size();
    const std::vector<ParameterSegment> segments = {
        {TensorName(pattern, index) + ".weight", width}};
    if (per_head) {
      return AddReplicatedParameter(segments, {width}, tp, ReplicatedGrad::kPartial, false,
                                    {.mean = 1 - offset}, arena);
    }
    const auto shards = WeightShards::Split({width}, 0, {all}, tp.size());
    CHECK(shards.ok()) << shards.status();
    return AddShardedParameter(segments, *shards, tp, false, {.mean = 1 - offset}, arena);
  };
  const std::vector<ShardSegment> qkv = QkvSegments(c.num_heads, c.num_kv_heads, c.head_dim);
  const Parameter* query = add_weight(TensorNamesOf(c).query_norm, qkv[0]);
  const Parameter* key = add_weight(TensorNamesOf(c).key_norm, qkv[1]);
  QkNormLayer layer({.kind = per_head ? QkNormKind::kPerHead : QkNormKind::kWhole,
                     .num_heads = heads->query.size(),
                     .num_kv_heads = heads->key_value.range.size(),
                     .head_dim = c.head_dim},
                    query, key, c.norm_eps, offset, tp);
  layer.set_layer("qk norm");
  return layer;
}

namespace {

// Every rank holds A, and multiplies it with the gradients of its own columns: A's is partial. B is
// cut as the layer's columns are.
LowRankAdapter AddColumnAdapter(const ModelConfig& config, const TensorParallel& tp,
                                ParameterArena* arena, const AdaptedColumns& adapted,
                                bool interleaved, int64_t out) {
  const int64_t in = config.hidden_size, rank = config.lora.rank;
  const int64_t num_adapters = static_cast<int64_t>(adapted.names.size());
  Parameter* a = AddReplicatedParameter(ASegments(adapted.names, rank), {in, num_adapters * rank},
                                        tp, ReplicatedGrad::kPartial, true, AdapterInit(in), arena);
  std::vector<std::pair<std::string, int64_t>> parts;
  int64_t columns = 0;
  for (const auto& [name, width] : adapted.parts) {
    parts.emplace_back(AdapterName(name), width);
    columns += width;
  }
  Parameter* b = AddShardedParameter(
      interleaved ? InterleavedSegments(parts[0].first + kLoraB, adapted.segments, true)
                  : Segments(parts, kLoraB, /*transposed=*/true),
      SplitOrDie({rank, columns}, -1, adapted.segments, tp), tp, true, {}, arena);
  return LowRankAdapter(a, b, AdapterScale(config.lora), adapted.columns, out);
}

// A is cut as the layer's rows are. Every rank holds B, and multiplies its gradient with its part
// of x A: B's is partial.
LowRankAdapter AddRowAdapter(const ModelConfig& config, const TensorParallel& tp,
                             ParameterArena* arena, const std::string& name,
                             const ShardSegment& rows) {
  const int64_t in = rows.size(), out = config.hidden_size, rank = config.lora.rank;
  Parameter* a = AddShardedParameter(ASegments({name}, rank), SplitOrDie({in, rank}, 0, {rows}, tp),
                                     tp, true, AdapterInit(in), arena);
  Parameter* b = AddReplicatedParameter(Segments({{AdapterName(name), out}}, kLoraB, true),
                                        {rank, out}, tp, ReplicatedGrad::kPartial, true, {}, arena);
  return LowRankAdapter(a, b, AdapterScale(config.lora), {{0, out}}, out);
}

}  // namespace

ColumnParallelLinear AddColumnParallelLinear(
    const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
    ParameterArena* adapters, const std::vector<std::pair<std::string, int64_t>>& parts,
    const std::vector<ShardSegment>& segments, bool bias, bool interleaved) {
  int64_t columns = 0;
  for (const auto& [name, width] : parts) columns += width;
  const auto shards_of = [&](const Shape& shape) { return SplitOrDie(shape, -1, segments, tp); };
  const auto segments_of = [&](const char* suffix, bool transposed) {
    return interleaved ? InterleavedSegments(parts[0].first + suffix, segments, transposed)
                       : Segments(parts, suffix, transposed);
  };
  Parameter* weight = AddShardedParameter(segments_of(".weight", TensorNamesOf(config).transposed),
                                          shards_of({config.hidden_size, columns}), tp, true,
                                          {.stddev = config.initializer_range}, arena);
  const Parameter* bias_parameter =
      bias ? AddShardedParameter(segments_of(".bias", /*transposed=*/false), shards_of({columns}),
                                 tp, false, {}, arena)
           : nullptr;
  ColumnParallelLinear layer(weight, bias_parameter, tp);
  const AdaptedColumns adapted =
      FindAdaptedColumns(config, parts, segments, shards_of({columns}).Pieces(tp.rank()));
  if (!adapted.names.empty()) {
    layer.set_adapter(AddColumnAdapter(config, tp, adapters, adapted, interleaved,
                                       /*out=*/weight->shape[1]));
  }
  return layer;
}

RowParallelLinear AddRowParallelLinear(const ModelConfig& config, const TensorParallel& tp,
                                       ParameterArena* arena, ParameterArena* adapters,
                                       const std::string& name, const ShardSegment& rows,
                                       bool bias) {
  const int64_t c = config.hidden_size;
  const WeightShards shards = SplitOrDie({rows.size(), c}, 0, {rows}, tp);
  Parameter* weight =
      AddShardedParameter(Segments({{name, c}}, ".weight", TensorNamesOf(config).transposed),
                          shards, tp, true, {.stddev = ResidualStddev(config)}, arena);
  const Parameter* bias_parameter = bias
                                        ? AddReplicatedParameter({{name + ".bias", c}}, {c}, tp,
                                                                 ResidualGrad(tp), false, {}, arena)
                                        : nullptr;
  RowParallelLinear layer(weight, bias_parameter, tp);
  if (HasAdapter(config.lora, name)) {
    layer.set_adapter(AddRowAdapter(config, tp, adapters, name, rows));
  }
  return layer;
}

}  // namespace strake
