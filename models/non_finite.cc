#include "models/non_finite.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

// The index of the first of x's elements that is not finite; their number where all are.
template <typename T>
int64_t FirstIndex(const Tensor& x) {
  const T* values = x.data<T>();
  return std::find_if_not(values, values + x.num_elements(), [](T v) { return std::isfinite(v); }) -
         values;
}

// Elements [begin, begin + x's) of a tensor of shape `shape`; empty where every one is finite.
std::string Describe(const std::string& name, const Tensor& x, int64_t begin, const Shape& shape) {
  const bool f64 = x.dtype() == DType::kF64;
  const int64_t i = f64 ? FirstIndex<double>(x) : FirstIndex<float>(x);
  if (i == x.num_elements()) return "";
  return absl::StrCat(name, ", element ", begin + i, " of ",
                      Tensor(nullptr, x.dtype(), shape).ToString(), " (",
                      f64 ? x.data<double>()[i] : x.data<float>()[i], ")");
}

std::string Describe(const std::string& name, const Tensor& x) {
  return Describe(name, x, 0, x.shape());
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
    activations.emplace_back(layer + "mlp activation", mlp.down_linear.linear.x);
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

std::string FirstNonFiniteGradient(const ParameterArena& parameters, int64_t begin,
                                   const Tensor& grads) {
  const auto& all = parameters.parameters();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    const int64_t first = std::max(it->offset, begin);
    const int64_t last = std::min(it->offset + it->num_elements(), begin + grads.num_elements());
    if (first >= last) continue;
    const std::string found =
        Describe("the gradient of " + it->name(), grads.Rows(first - begin, last - begin),
                 first - it->offset, it->shape);
    if (!found.empty()) return found;
  }
  return "none";
}

}  // namespace strake
