#include "models/non_finite.h"

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

// Empty where every element is finite.
std::string Describe(const std::string& name, const Tensor& x) {
  const float* values = x.data<float>();
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    if (std::isfinite(values[i])) continue;
    return absl::StrCat(name, ", element ", i, " of ", x.ToString(), " (", values[i], ")");
  }
  return "";
}

}  // namespace

std::string FirstNonFinite(const ParameterArena& parameters, const TransformerSaved& saved) {
  for (const Parameter& parameter : parameters.parameters()) {
    const std::string found = Describe("weight " + parameter.name(), parameter.value);
    if (!found.empty()) return found;
  }
  std::vector<std::pair<std::string, Tensor>> activations;
  for (size_t i = 0; i < saved.attention.size(); ++i) {
    const std::string layer = absl::StrCat("layer ", i, " ");
    const AttentionBlockSaved& attention = saved.attention[i];
    const MlpBlockSaved& mlp = saved.mlp[i];
    activations.emplace_back(layer + "input", attention.norm.x);
    activations.emplace_back(layer + "attention norm", attention.qkv_linear.x);
    activations.emplace_back(layer + "qkv", attention.qkv);
    activations.emplace_back(layer + "attention", attention.attention);
    activations.emplace_back(layer + "attention output", mlp.norm.x);
    activations.emplace_back(layer + "mlp norm", mlp.up_linear.x);
    activations.emplace_back(layer + "mlp up", mlp.up);
    activations.emplace_back(layer + "mlp activation", mlp.down_linear.x);
  }
  activations.emplace_back("last layer's output", saved.norm.x);
  activations.emplace_back("final norm", saved.head.x);
  activations.emplace_back("logits", saved.logits);
  for (const auto& [name, tensor] : activations) {
    const std::string found = Describe(name, tensor);
    if (!found.empty()) return found;
  }
  return "none";
}

std::string FirstNonFiniteGradient(const ParameterArena& parameters) {
  const auto& all = parameters.parameters();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    const std::string found = Describe("the gradient of " + it->name(), it->grad);
    if (!found.empty()) return found;
  }
  return "none";
}

}  // namespace strake
