#include "models/non_finite.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/memory/device_memory.h"
#include "models/head_loss.h"

namespace strake {
namespace {

struct Found {
  int64_t index;
  double value;
};

// Finds the first element of x that is not finite.
template <typename T, typename Value>
std::optional<Found> FirstOf(const Tensor& x) {
  const T* values = x.data<T>();
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    const auto value = static_cast<Value>(values[i]);
    if (!std::isfinite(value)) return Found{i, value};
  }
  return std::nullopt;
}

std::optional<Found> FirstIn(const Tensor& x) {
  if (x.dtype() == DType::kF64) return FirstOf<double, double>(x);
  if (x.dtype() == DType::kBf16) return FirstOf<Bf16, float>(x);
  return FirstOf<float, float>(x);
}

// Describes elements [begin, begin + x's) of a tensor of shape `shape`; empty where all are finite.
std::string Describe(const std::string& name, const Tensor& x, int64_t begin, const Shape& shape) {
  const auto host = HostCopy::Of(x);
  if (!host.ok()) return absl::StrCat(name, ", which cannot be read: ", host.status().message());
  const std::optional<Found> found = FirstIn(*host);
  if (!found.has_value()) return "";
  return absl::StrCat(name, ", element ", begin + found->index, " of ",
                      Tensor(nullptr, x.dtype(), shape).ToString(), " (", found->value, ")");
}

std::string Describe(const std::string& name, const Tensor& x) {
  return Describe(name, x, 0, x.shape());
}

std::string DescribeLogits(const Context& ctx, const HeadLoss& head, const Tensor& h) {
  std::string found;
  const absl::Status status =
      head.ForEachChunk(ctx, h, [&](int64_t begin, const Tensor& logits) -> absl::Status {
        const int64_t columns = logits.dim(1);
        if (found.empty()) {
          found = Describe("logits", logits, begin * columns, {h.dim(0), columns});
        }
        return absl::OkStatus();
      });
  return status.ok() ? found : absl::StrCat("logits, which fail: ", status.message());
}

}  // namespace

std::string FirstNonFiniteWeight(absl::Span<const ParameterArena* const> arenas) {
  for (const ParameterArena* arena : arenas) {
    for (const ParameterRecord& record : arena->records()) {
      const std::string found = Describe("weight " + record.name(), record.parameter.value);
      if (!found.empty()) return found;
    }
  }
  return "none";
}

std::string FirstNonFinite(const Context& ctx, const Transformer& model,
                           absl::Span<const ParameterArena* const> arenas,
                           const TransformerSaved& saved) {
  const std::string weight = FirstNonFiniteWeight(arenas);
  if (weight != "none") return weight;
  std::vector<std::pair<std::string, Tensor>> activations;
  for (size_t i = 0; i < saved.attention.size(); ++i) {
    const std::string layer = absl::StrCat("layer ", model.layers().begin + i, " ");
    const AttentionBlockSaved& attention = saved.attention[i];
    const MlpBlockSaved& mlp = saved.mlp[i];
    activations.emplace_back(layer + "input", attention.branch.norm.x);
    activations.emplace_back(layer + "attention norm", attention.qkv_linear.x);
    activations.emplace_back(layer + "qkv", attention.qkv);
    activations.emplace_back(layer + "attention", attention.attention);
    activations.emplace_back(layer + "attention output", mlp.branch.norm.x);
    activations.emplace_back(layer + "mlp norm", mlp.up_linear.x);
    activations.emplace_back(layer + "mlp up", mlp.up);
    activations.emplace_back(layer + "mlp activation", mlp.down_linear.linear.x);
  }
  activations.emplace_back("last layer's output", saved.norm.x);
  activations.emplace_back("final norm", saved.head.h);
  for (const auto& [name, tensor] : activations) {
    if (!tensor.defined()) continue;  // recomputed in the backward pass
    const std::string found = Describe(name, tensor);
    if (!found.empty()) return found;
  }
  if (!model.is_last()) return "none";
  const std::string found = DescribeLogits(ctx, model.head(), saved.head.h);
  return found.empty() ? "none" : found;
}

std::string FirstNonFiniteGradient(const ParameterArena& parameters, int64_t begin,
                                   const Tensor& grads) {
  const auto& all = parameters.records();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    const int64_t first = std::max(it->offset, begin);
    const int64_t last = std::min(it->end(), begin + grads.num_elements());
    if (first >= last) continue;
    const std::string found =
        Describe("the gradient of " + it->name(), grads.Rows(first - begin, last - begin),
                 first - it->offset, it->shape());
    if (!found.empty()) return found;
  }
  return "none";
}

}  // namespace strake
