#include "models/families/rope_keys.h"

#include <cmath>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "models/families/rope_scaling_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kOriginal[] = "original_max_position_embeddings";
constexpr char kShare[] = "partial_rotary_factor";
constexpr char kWholeHeads[] = "only 1 is supported: the family rotates whole heads";

double ReadTheta(HfKeys& keys, const char* key, double fallback) {
  return keys.Number(key, fallback, 1, 1e15);
}

void RequireWholeHeads(HfKeys& keys) {
  if (keys.Number(kShare, 1, 0, 1) != 1) keys.MustBeAbsent(kShare, kWholeHeads);
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
void ReadParameters(HfKeys& keys, const RopeKeys& names, const RopeOutside& outside,
                    RopeConfig* rope) {
  const std::string type = keys.Word(keys.Has("rope_type") ? "rope_type" : "type", names.types);
  keys.Has("type");  // may stand beside "rope_type"
  rope->theta = ReadTheta(keys, "rope_theta", rope->theta);
  const int64_t rotary_dim = rope->rotary_dim == 0 ? outside.sizes.head_dim : rope->rotary_dim;
  ReadRopeScaling(keys, IsLong(type, names) ? "longrope" : type, outside, rotary_dim, rope);
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

bool IsScaled(const RopeConfig& rope) {
  return !std::holds_alternative<std::monostate>(rope.scaling);
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
  RopeOutside outside = {sizes, std::nullopt};
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
    if (names.one_for_all_layers) {
      for (const char* type : {"full_attention", "sliding_attention"}) {
        inner.MustBeAbsent(type, "all layers of the family have one RoPE: give its keys here");
      }
    }
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
    (*json)["rope_scaling"] = OlderLongJson(*longrope, sizes);
  } else if (IsScaled(rope)) {
    (*json)["rope_scaling"] = RopeScalingJson(rope);
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
    if (IsScaled(ropes.full)) (*json)["rope_scaling"] = RopeScalingJson(ropes.full);
    return;
  }
  OrderedJson full = RopeScalingJson(ropes.full), windowed = RopeScalingJson(ropes.windowed);
  full["rope_theta"] = ropes.full.theta;
  windowed["rope_theta"] = ropes.windowed.theta;
  (*json)["rope_parameters"] = {{"full_attention", full}, {"sliding_attention", windowed}};
}

}  // namespace strake
