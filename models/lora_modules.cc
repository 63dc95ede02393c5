#include "models/lora_modules.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/strings/substitute.h"
#include "glog/logging.h"
#include "models/families/family.h"

namespace strake {
namespace {

// A linear layer, as the files of the family have it.
struct Module {
  std::string name;
  int64_t in = 0, out = 0;
};

// Those of one layer, in forward order.
std::vector<Module> ModulesOf(const ModelConfig& c, int64_t layer) {
  CHECK(c.family != nullptr) << "[lora_modules] the model has no family to name modules";
  const TensorNames& names = c.family->tensors;
  std::vector<Module> modules;
  const auto add = [&](const char* pattern, int64_t in, int64_t out) {
    std::string name = absl::Substitute(pattern, layer);
    if (!modules.empty() && modules.back().name == name) {
      modules.back().out += out;
    } else {
      modules.push_back({std::move(name), in, out});
    }
  };
  const int64_t hidden = c.hidden_size, query = c.num_heads * c.head_dim;
  const int64_t key = c.num_kv_heads * c.head_dim;
  add(names.query, hidden, query);
  add(names.key, hidden, key);
  add(names.value, hidden, key);
  add(names.attention_output, query, hidden);
  if (c.gated_mlp) add(names.gate, hidden, c.intermediate_size);
  add(names.up, hidden, c.intermediate_size);
  add(names.down, c.intermediate_size, hidden);
  return modules;
}

bool IsTarget(absl::string_view target, absl::string_view module) {
  return absl::ConsumeSuffix(&module, target) && (module.empty() || module.back() == '.');
}

bool NamesModule(const ModelConfig& config, const std::string& target) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::vector<Module> modules = ModulesOf(config, layer);
    if (std::any_of(modules.begin(), modules.end(),
                    [&](const Module& module) { return IsTarget(target, module.name); })) {
      return true;
    }
  }
  return false;
}

double CountAdapterParameters(const ModelConfig& config) {
  double count = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const Module& module : ModulesOf(config, layer)) {
      if (HasAdapter(config.lora, module.name)) count += double(module.in) + double(module.out);
    }
  }
  return count * double(config.lora.rank);
}

}  // namespace

bool HasAdapter(const LoraConfig& lora, absl::string_view module) {
  if (!lora.enabled()) return false;
  return lora.targets.empty() ||
         std::any_of(lora.targets.begin(), lora.targets.end(),
                     [&](const std::string& target) { return IsTarget(target, module); });
}

std::vector<std::string> AdapterModules(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const Module& module : ModulesOf(config, /*layer=*/0)) {
    std::string last = module.name.substr(module.name.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), last) == names.end()) {
      names.push_back(std::move(last));
    }
  }
  return names;
}

int64_t NumAdapterParameters(const ModelConfig& config) {
  return static_cast<int64_t>(CountAdapterParameters(config));
}

absl::Status CheckLora(const ModelConfig& config) {
  const LoraConfig& lora = config.lora;
  if (lora.rank == 0) return absl::OkStatus();
  constexpr int64_t kMaxRank = int64_t{1} << 20;
  if (lora.rank < 0 || lora.rank > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("the adapters' rank ", lora.rank, " is not in [0, ", kMaxRank, "]"));
  }
  if (!std::isfinite(lora.alpha) || lora.alpha <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the adapters' alpha ", lora.alpha, " is not a finite number above 0"));
  }
  for (const std::string& target : lora.targets) {
    if (!target.empty() && NamesModule(config, target)) continue;
    return absl::InvalidArgumentError(absl::StrCat("the model has no linear layer \"", target,
                                                   "\" for an adapter; it has ",
                                                   absl::StrJoin(AdapterModules(config), ", ")));
  }
  if (CountAdapterParameters(config) > 0x1p50) {
    return absl::InvalidArgumentError(absl::StrCat("adapters of rank ", lora.rank, " have ",
                                                   CountAdapterParameters(config),
                                                   " parameters; at most 2^50 are handled"));
  }
  return absl::OkStatus();
}

}  // namespace strake
