#include "core/ops/check/check_cases.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/ops/activation/activation_check.h"
#include "core/ops/adamw/adamw_check.h"
#include "core/ops/attention/causal_attention_check.h"
#include "core/ops/attention/partial_attention_check.h"
#include "core/ops/bias_add/bias_add_check.h"
#include "core/ops/cast/cast_check.h"
#include "core/ops/clip_scale/clip_scale_check.h"
#include "core/ops/copy/copy_check.h"
#include "core/ops/embedding/embedding_check.h"
#include "core/ops/embedding/position_embedding_check.h"
#include "core/ops/gated_activation/gated_activation_check.h"
#include "core/ops/matmul/matmul_check.h"
#include "core/ops/norm/layer_norm_check.h"
#include "core/ops/norm/rms_norm_check.h"
#include "core/ops/qk_norm/qk_norm_check.h"
#include "core/ops/residual_add/residual_add_check.h"
#include "core/ops/rope/rope_check.h"
#include "core/ops/scale/scale_check.h"
#include "core/ops/softcap/softcap_check.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_check.h"
#include "core/ops/squared_norm/squared_norm_check.h"
#include "core/ops/sum/sum_check.h"
#include "glog/logging.h"

namespace strake {
namespace {

struct Case {
  const char* op;
  OpCheck (*make)(const OpCall& call);
};

constexpr Case kCases[] = {{"adamw", AdamWCheck},
                           {"bias_add", BiasAddCheck},
                           {"cast", CastCheck},
                           {"causal_attention", CausalAttentionCheck},
                           {"clip_scale", ClipScaleCheck},
                           {"copy", CopyCheck},
                           {"copy_rows", CopyRowsCheck},
                           {"embedding", EmbeddingCheck},
                           {"geglu", GatedActivationCheck<ActivationKind::kGeluTanh>},
                           {"geglu_erf", GatedActivationCheck<ActivationKind::kGelu>},
                           {"gelu", ActivationCheck<ActivationKind::kGeluTanh>},
                           {"gelu_erf", ActivationCheck<ActivationKind::kGelu>},
                           {"layer_norm", LayerNormCheck},
                           {"matmul", MatmulCheck},
                           {"partial_attention", PartialAttentionCheck},
                           {"position_embedding", PositionEmbeddingCheck},
                           {"qk_norm", QkNormCheck},
                           {"qk_norm_sums", QkNormSumsCheck},
                           {"reglu", GatedActivationCheck<ActivationKind::kRelu>},
                           {"relu", ActivationCheck<ActivationKind::kRelu>},
                           {"residual_add", ResidualAddCheck},
                           {"rms_norm", RmsNormCheck},
                           {"rope", RopeCheck},
                           {"scale", ScaleCheck},
                           {"set_zero", SetZeroCheck},
                           {"silu", ActivationCheck<ActivationKind::kSilu>},
                           {"softcap", SoftcapCheck},
                           {"softmax_cross_entropy", SoftmaxCrossEntropyCheck},
                           {"softmax_from_sums", SoftmaxFromSumsCheck},
                           {"softmax_slice_max", SoftmaxSliceMaxCheck},
                           {"softmax_slice_sums", SoftmaxSliceSumsCheck},
                           {"squared_norm", SquaredNormCheck},
                           {"sum", SumCheck},
                           {"swiglu", GatedActivationCheck<ActivationKind::kSilu>}};

const Case* FindCase(const OpCall& call) {
  const auto found = std::find_if(std::begin(kCases), std::end(kCases), [&](const Case& each) {
    return std::strcmp(each.op, call.op) == 0;
  });
  return found == std::end(kCases) ? nullptr : found;
}

void AddLayer(const std::string& layer, std::string* layers) {
  const std::vector<std::string> known = absl::StrSplit(*layers, ", ");
  if (std::find(known.begin(), known.end(), layer) != known.end()) return;
  absl::StrAppend(layers, ", ", layer);
}

}  // namespace

bool HasCheckCase(const OpCall& call) { return FindCase(call) != nullptr; }

OpCheck CheckCaseOf(const OpCall& call) {
  const Case* const found = FindCase(call);
  CHECK(found != nullptr) << "[check_cases] none for " << call.ToString()
                          << ": add it to kCases of core/ops/check/check_cases.cc";
  OpCheck check = found->make(call);
  check.op = call.op;
  check.pass = call.pass;
  check.layers = call.layer;
  check.num_calls = call.times;
  return check;
}

std::vector<OpCheck> ChecksOf(const std::vector<OpCall>& calls) {
  std::vector<OpCheck> checks;
  absl::flat_hash_map<std::string, size_t> index;  // into checks, keyed by ToString()
  for (const OpCall& call : calls) {
    if (call.is_collective()) continue;
    const auto [found, is_new] = index.emplace(call.ToString(), checks.size());
    if (is_new) {
      checks.push_back(CheckCaseOf(call));
      continue;
    }
    OpCheck& known = checks[found->second];
    known.num_calls += call.times;
    AddLayer(call.layer, &known.layers);
  }
  return checks;
}

}  // namespace strake
