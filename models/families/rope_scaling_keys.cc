#include "models/families/rope_scaling_keys.h"

#include <cmath>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kOriginal[] = "original_max_position_embeddings";
// Above the ratio of any two numbers of positions, which may be a default.
constexpr double kMaxFactor = 1e13;

void RequireKey(HfKeys& keys, const char* key, const std::string& type) {
  if (!keys.Has(key)) {
    keys.Fail(absl::StrCat("\"", key, "\" is missing for ", type, " scaling"));
  }
}

// transformers prefers the value outside the object, and takes max_position_embeddings for none.
int64_t ReadOriginalPositions(HfKeys& keys, const RopeOutside& outside) {
  const int64_t fallback = outside.original_positions.value_or(outside.sizes.max_positions);
  const int64_t inside = keys.Size(kOriginal, fallback);
  if (outside.original_positions.has_value() && inside != fallback) {
    keys.Fail(absl::StrCat("\"", kOriginal, "\" is ", inside, " but the file's is ", fallback,
                           "; make them equal"));
  }
  return inside;
}

RopeWavelengthScaling ReadWavelengthScaling(HfKeys& keys, const RopeOutside& outside) {
  for (const char* key : {"factor", "low_freq_factor", "high_freq_factor"}) {
    RequireKey(keys, key, "llama3");
  }
  RopeWavelengthScaling scaling;
  scaling.factor = keys.Number("factor", 8, 1, kMaxFactor);
  scaling.low_frequency_factor = keys.Number("low_freq_factor", 1, 1e-6, kMaxFactor);
  scaling.high_frequency_factor = keys.Number("high_freq_factor", 4, 1e-6, kMaxFactor);
  scaling.original_positions = ReadOriginalPositions(keys, outside);
  if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
    keys.Fail("\"high_freq_factor\" must be larger than \"low_freq_factor\"");
  }
  return scaling;
}

// "YaRN", section 3.4, with a weight for the logarithm.
double YarnScale(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

RopeYarnScaling ReadYarnScaling(HfKeys& keys, const RopeOutside& outside) {
  RopeYarnScaling scaling;
  scaling.original_positions = ReadOriginalPositions(keys, outside);
  scaling.factor = keys.Number(
      "factor", double(outside.sizes.max_positions) / scaling.original_positions, 1e-6, kMaxFactor);
  if (scaling.factor < 1e-6 || scaling.factor > kMaxFactor) {
    keys.Fail(absl::StrCat("\"factor\" is missing, and ", outside.sizes.max_positions, " over ",
                           scaling.original_positions, " positions is no factor"));
  }
  scaling.fast_rotations = keys.Number("beta_fast", 32, 1e-6, kMaxFactor);
  scaling.slow_rotations = keys.Number("beta_slow", 1, 1e-6, kMaxFactor);
  if (scaling.fast_rotations < scaling.slow_rotations) {
    keys.Fail("\"beta_fast\" must be at least \"beta_slow\"");
  }
  const double weight = keys.Number("mscale", 0, 0, 1000);
  const double whole = keys.Number("mscale_all_dim", 0, 0, 1000);
  const double suggested = weight != 0 && whole != 0 ? YarnScale(scaling.factor, weight) /
                                                           YarnScale(scaling.factor, whole)
                                                     : YarnScale(scaling.factor, 1);
  scaling.attention_factor = keys.Number("attention_factor", suggested, 1e-6, kMaxFactor);
  scaling.whole_range = keys.Bool("truncate", true);
  return scaling;
}

std::vector<double> ReadFactors(HfKeys& keys, const char* key, int64_t count) {
  RequireKey(keys, key, "longrope");
  std::vector<double> factors = keys.Numbers(key, 1e-6, kMaxFactor);
  if (static_cast<int64_t>(factors.size()) != count) {
    keys.Fail(absl::StrCat("\"", key, "\" has ", factors.size(), " numbers; ", count,
                           " pairs of features are rotated"));
  }
  return factors;
}

// "LongRoPE", section 4.2.
double LongAttentionFactor(double factor, double original_positions) {
  if (factor <= 1 || original_positions <= 1) return 1;
  return std::sqrt(1 + std::log(factor) / std::log(original_positions));
}

RopeLongScaling ReadLongScaling(HfKeys& keys, const RopeOutside& outside, int64_t rotary_dim) {
  RopeLongScaling scaling;
  scaling.short_factors = ReadFactors(keys, "short_factor", rotary_dim / 2);
  scaling.long_factors = ReadFactors(keys, "long_factor", rotary_dim / 2);
  scaling.original_positions = ReadOriginalPositions(keys, outside);
  const double original = scaling.original_positions;
  const double factor =
      keys.Number("factor", outside.sizes.max_positions / original, 1e-6, kMaxFactor);
  scaling.attention_factor =
      keys.Number("attention_factor", LongAttentionFactor(factor, original), 1e-6, kMaxFactor);
  return scaling;
}

}  // namespace

void ReadRopeScaling(HfKeys& keys, const std::string& type, const RopeOutside& outside,
                     int64_t rotary_dim, RopeConfig* rope) {
  if (type == "linear" || type == "dynamic") {
    RequireKey(keys, "factor", type);
    const double factor = keys.Number("factor", 1, 1, kMaxFactor);
    if (type == "linear") {
      rope->scaling = RopeLinearScaling{factor};
    } else {
      rope->scaling = RopeDynamicScaling{factor};
    }
  } else if (type == "llama3") {
    rope->scaling = ReadWavelengthScaling(keys, outside);
  } else if (type == "yarn") {
    rope->scaling = ReadYarnScaling(keys, outside);
  } else if (type == "longrope") {
    rope->scaling = ReadLongScaling(keys, outside, rotary_dim);
  }
}

OrderedJson RopeScalingJson(const RopeConfig& rope) {
  if (const auto* linear = std::get_if<RopeLinearScaling>(&rope.scaling)) {
    return {{"rope_type", "linear"}, {"factor", linear->factor}};
  }
  if (const auto* dynamic = std::get_if<RopeDynamicScaling>(&rope.scaling)) {
    return {{"rope_type", "dynamic"}, {"factor", dynamic->factor}};
  }
  if (const auto* llama3 = std::get_if<RopeWavelengthScaling>(&rope.scaling)) {
    return {{"rope_type", "llama3"},
            {"factor", llama3->factor},
            {"low_freq_factor", llama3->low_frequency_factor},
            {"high_freq_factor", llama3->high_frequency_factor},
            {kOriginal, llama3->original_positions}};
  }
  if (const auto* yarn = std::get_if<RopeYarnScaling>(&rope.scaling)) {
    OrderedJson json = {{"rope_type", "yarn"},
                        {"factor", yarn->factor},
                        {kOriginal, yarn->original_positions},
                        {"attention_factor", yarn->attention_factor},
                        {"beta_fast", yarn->fast_rotations},
                        {"beta_slow", yarn->slow_rotations}};
    if (!yarn->whole_range) json["truncate"] = false;
    return json;
  }
  if (const auto* longrope = std::get_if<RopeLongScaling>(&rope.scaling)) {
    return {{"rope_type", "longrope"},
            {"short_factor", longrope->short_factors},
            {"long_factor", longrope->long_factors},
            {kOriginal, longrope->original_positions},
            {"attention_factor", longrope->attention_factor}};
  }
  OrderedJson json;
  json["rope_type"] = "default";
  return json;
}

OrderedJson OlderLongJson(const RopeLongScaling& scaling, const RopeSizes& sizes) {
  OrderedJson json = {{"type", "longrope"},
                      {"short_factor", scaling.short_factors},
                      {"long_factor", scaling.long_factors}};
  const double original = scaling.original_positions;
  if (scaling.attention_factor != LongAttentionFactor(sizes.max_positions / original, original)) {
    json["attention_factor"] = scaling.attention_factor;
  }
  return json;
}

}  // namespace strake
