#include "models/families/rope_keys.h"

#include <cmath>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kOriginal[] = "original_max_position_embeddings";
constexpr char kShare[] = "partial_rotary_factor";
// Above the ratio of any two numbers of positions, which may be a default.
constexpr double kMaxFactor = 1e13;
constexpr char kWholeHeads[] = "only 1 is supported: the family rotates whole heads";

double ReadTheta(HfKeys& keys, const char* key, double fallback) {
  return keys.Number(key, fallback, 1, 1e15);
}

void RequireKey(HfKeys& keys, const char* key, const std::string& type) {
  if (!keys.Has(key)) {
    keys.Fail(absl::StrCat("\"", key, "\" is missing for ", type, " scaling"));
  }
}

void RequireWholeHeads(HfKeys& keys) {
  if (keys.Number(kShare, 1, 0, 1) != 1) keys.MustBeAbsent(kShare, kWholeHeads);
}

// What an object of RoPE's parameters needs from outside it.
struct Outside {
  RopeSizes sizes;
  std::optional<int64_t> original_positions;
};

// transformers prefers the value outside the object, and takes max_position_embeddings for none.
int64_t ReadOriginalPositions(HfKeys& keys, const Outside& outside) {
  const int64_t fallback = outside.original_positions.value_or(outside.sizes.max_positions);
  const int64_t inside = keys.Size(kOriginal, fallback);
  if (outside.original_positions.has_value() && inside != fallback) {
    keys.Fail(absl::StrCat("\"", kOriginal, "\" is ", inside, " but the file's is ", fallback,
                           "; make them equal"));
  }
  return inside;
}

RopeWavelengthScaling ReadWavelengthScaling(HfKeys& keys, const Outside& outside) {
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

RopeYarnScaling ReadYarnScaling(HfKeys& keys, const Outside& outside) {
  RopeYarnScaling scaling;
  scaling.original_positions = ReadOriginalPositions(keys, outside);
  scaling.factor = keys.Number(
      "factor", double(outside.sizes.max_positions) / scaling.original_positions, 1e-6, kMaxFactor);
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

RopeLongScaling ReadLongScaling(HfKeys& keys, const Outside& outside, int64_t rotary_dim) {
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

// "su" is an older name of "longrope", and phi3's "yarn" is another.
bool IsLong(const std::string& type, const RopeKeys& names) {
  return type == "longrope" || type == "su" || (type == "yarn" && names.types[1] == "longrope");
}

// The features of a head that `share` of it are: 0 for all.
int64_t RotaryDim(HfKeys& keys, double share, int64_t head_dim) {
  const auto rotated = static_cast<int64_t>(head_dim * share);
  if (rotated == head_dim) return 0;
  if (rotated < 2 || rotated % 2 != 0) {
    keys.Fail(absl::StrCat("a share of ", share, " of the head size ", head_dim, " rotates ",
                           rotated, " features; RoPE rotates pairs"));
  }
  return rotated;
}

// Reads an object into *rope, which holds the values from outside.
void ReadParameters(HfKeys& keys, const RopeKeys& names, const Outside& outside, RopeConfig* rope) {
  const std::string type = keys.Word(keys.Has("rope_type") ? "rope_type" : "type", names.types);
  keys.Has("type");  // may stand beside "rope_type"
  rope->theta = ReadTheta(keys, "rope_theta", rope->theta);
  const int64_t rotary_dim = rope->rotary_dim == 0 ? outside.sizes.head_dim : rope->rotary_dim;
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
  } else if (IsLong(type, names)) {
    rope->scaling = ReadLongScaling(keys, outside, rotary_dim);
  } else if (type == "yarn") {
    rope->scaling = ReadYarnScaling(keys, outside);
  }
}

void ReadParametersOfLayerType(HfKeys& keys, const RopeSizes& sizes, RopeConfig* rope) {
  RequireWholeHeads(keys);
  // transformers looks for it outside this object, where it cannot stand.
  keys.MustBe("truncate", true);
  ReadParameters(keys, RopeKeys(), {sizes, std::nullopt}, rope);
}

// The name of the object that is given, or null.
const char* ParametersKey(HfKeys& keys) {
  const char* found = nullptr;
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (!keys.Has(name) || keys.At(name) == nlohmann::json::object()) continue;
    if (found != nullptr) {
      keys.Fail("both \"rope_scaling\" and \"rope_parameters\" are given; keep one");
    }
    found = name;
  }
  return found;
}

// Fails where the values inside and outside an object are both given and differ.
void CheckSame(HfKeys& outer, const char* outer_key, double outside, HfKeys& inner,
               const char* inner_key, double inside) {
  if (outer.Has(outer_key) && inner.Has(inner_key) && inside != outside) {
    inner.Fail(absl::StrCat("\"", inner_key, "\" is ", inside, " but the file's \"", outer_key,
                            "\" is ", outside, "; remove one"));
  }
}

OrderedJson ScalingJson(const RopeConfig& rope) {
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

bool IsScaled(const RopeConfig& rope) {
  return !std::holds_alternative<std::monostate>(rope.scaling);
}

// Older versions of transformers take original_positions from outside alone, and for phi3 refuse
// more keys than these three.
OrderedJson OuterLongJson(const RopeLongScaling& scaling, const RopeSizes& sizes) {
  OrderedJson json = {{"type", "longrope"},
                      {"short_factor", scaling.short_factors},
                      {"long_factor", scaling.long_factors}};
  const double original = scaling.original_positions;
  if (scaling.attention_factor != LongAttentionFactor(sizes.max_positions / original, original)) {
    json["attention_factor"] = scaling.attention_factor;
  }
  return json;
}

// A share s with floor(s head_dim) = rotary_dim: the quotient may round down to less.
double Share(int64_t rotary_dim, int64_t head_dim) {
  if (rotary_dim == 0) return 1;
  const double share = double(rotary_dim) / head_dim;
  return static_cast<int64_t>(head_dim * share) == rotary_dim ? share : std::nextafter(share, 1.0);
}

}  // namespace

RopeConfig ReadRope(HfKeys& keys, const RopeKeys& names, const RopeSizes& sizes) {
  RopeConfig rope;
  const double theta = rope.theta = ReadTheta(keys, names.theta, names.default_theta);
  const char* share_key = names.share == nullptr ? kShare : names.share;
  const double outer_share = keys.Number(share_key, names.default_share, 0, 1);
  double share = outer_share;
  Outside outside = {sizes, std::nullopt};
  if (names.default_original_positions != 0) {
    outside.original_positions = keys.Size(kOriginal, names.default_original_positions);
  } else if (keys.Has(kOriginal)) {
    outside.original_positions = keys.Size(kOriginal);
  }
  if (names.share == nullptr) RequireWholeHeads(keys);
  const char* const object = ParametersKey(keys);
  if (object != nullptr) {
    HfKeys inner = keys.Object(object);
    share = inner.Number(kShare, share, 0, 1);
    if (names.share == nullptr) RequireWholeHeads(inner);
    rope.rotary_dim = RotaryDim(inner, share, sizes.head_dim);
    ReadParameters(inner, names, outside, &rope);
    CheckSame(keys, names.theta, theta, inner, "rope_theta", rope.theta);
    CheckSame(keys, share_key, outer_share, inner, kShare, share);
  } else {
    rope.rotary_dim = RotaryDim(keys, share, sizes.head_dim);
  }
  // Names that some versions of transformers write beside the family's own.
  if (names.theta != std::string("rope_theta")) {
    CheckSame(keys, names.theta, theta, keys, "rope_theta", ReadTheta(keys, "rope_theta", theta));
  }
  if (share_key != std::string(kShare)) {
    CheckSame(keys, share_key, outer_share, keys, kShare, keys.Number(kShare, outer_share, 0, 1));
  }
  return rope;
}

void WriteRope(const RopeConfig& rope, const RopeKeys& names, const RopeSizes& sizes,
               OrderedJson* json) {
  (*json)[names.theta] = rope.theta;
  if (names.share != nullptr) (*json)[names.share] = Share(rope.rotary_dim, sizes.head_dim);
  const auto* const longrope = std::get_if<RopeLongScaling>(&rope.scaling);
  if (longrope != nullptr) {
    (*json)[kOriginal] = longrope->original_positions;
    (*json)["rope_scaling"] = OuterLongJson(*longrope, sizes);
  } else if (IsScaled(rope)) {
    (*json)["rope_scaling"] = ScalingJson(rope);
  }
}

RopeByLayerType ReadRopeByLayerType(HfKeys& keys, const RopeByLayerType& defaults,
                                    const char* windowed_theta, const RopeSizes& sizes) {
  RopeByLayerType ropes = defaults;
  keys.MustBeAbsent(kOriginal, "only the one in \"rope_scaling\" is read");
  RequireWholeHeads(keys);
  ropes.full.theta = ReadTheta(keys, "rope_theta", defaults.full.theta);
  if (windowed_theta != nullptr) {
    ropes.windowed.theta = ReadTheta(keys, windowed_theta, defaults.windowed.theta);
  } else if (ropes.full.theta != defaults.full.theta) {
    keys.MustBeAbsent("rope_theta",
                      "versions of transformers differ in the layers that it is for: give "
                      "\"rope_parameters\" with \"full_attention\" and \"sliding_attention\"");
  }
  const char* const object = ParametersKey(keys);
  if (object == nullptr) return ropes;
  HfKeys inner = keys.Object(object);
  if (object == std::string("rope_scaling")) {
    inner.MustBeAbsent("rope_theta", "give it outside");
    ReadParametersOfLayerType(inner, sizes, &ropes.full);
    return ropes;
  }
  for (const auto& [type, rope] :
       {std::pair<const char*, RopeConfig*>{"full_attention", &ropes.full},
        {"sliding_attention", &ropes.windowed}}) {
    if (!inner.Has(type)) continue;
    HfKeys parameters = inner.Object(type);
    ReadParametersOfLayerType(parameters, sizes, rope);
  }
  for (const char* key : {"rope_type", "rope_theta", "factor"}) {
    inner.MustBeAbsent(key, "it must stand in \"full_attention\" or \"sliding_attention\"");
  }
  return ropes;
}

void WriteRopeByLayerType(const RopeByLayerType& ropes, const RopeByLayerType& defaults,
                          const char* windowed_theta, OrderedJson* json) {
  const bool older = !IsScaled(ropes.windowed) &&
                     (windowed_theta != nullptr || (ropes.windowed == defaults.windowed &&
                                                    ropes.full.theta == defaults.full.theta));
  if (older) {
    (*json)["rope_theta"] = ropes.full.theta;
    if (windowed_theta != nullptr) (*json)[windowed_theta] = ropes.windowed.theta;
    if (IsScaled(ropes.full)) (*json)["rope_scaling"] = ScalingJson(ropes.full);
    return;
  }
  OrderedJson full = ScalingJson(ropes.full), windowed = ScalingJson(ropes.windowed);
  full["rope_theta"] = ropes.full.theta;
  windowed["rope_theta"] = ropes.windowed.theta;
  (*json)["rope_parameters"] = {{"full_attention", full}, {"sliding_attention", windowed}};
}

}  // namespace strake
