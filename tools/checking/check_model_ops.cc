#include "tools/checking/check_model_ops.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "core/device/op_call.h"
#include "core/ops/check/check_cases.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/stage_models.h"
#include "train/engine/step_record.h"

namespace strake {

std::vector<OpCheck> ModelOps(const CheckCommand& command) {
  const CheckConfig& c = command.config;
  const MeshVector sizes = c.layout.sizes();
  const EngineOptions options = WithLayersOfParts(command.RankOptions(), sizes.pp);
  std::vector<OpCall> calls;
  absl::flat_hash_set<std::string> known;
  const auto add_new = [&](const MeshVector& at, absl::FunctionRef<void(OpCall*)> mark) {
    const int rank = RankOf(sizes, at);
    for (OpCall& call : RecordStep(options, sizes, rank, c.num_micro_batches()).calls) {
      if (!known.insert(call.ToString()).second) continue;
      mark(&call);
      calls.push_back(std::move(call));
    }
  };
  for (int stage = 0; stage < sizes.pp; ++stage) {
    add_new({.dp = 0, .pp = stage, .cp = 0, .tp = 0}, [](OpCall*) {});
  }
  for (int stage = 0; stage < sizes.pp && sizes.cp * sizes.tp > 1; ++stage) {
    add_new({.dp = 0, .pp = stage, .cp = sizes.cp - 1, .tp = sizes.tp - 1}, [](OpCall* call) {
      call->layer += " of the last rank";
      call->times = 0;
    });
  }
  return ChecksOf(calls);
}

}  // namespace strake
