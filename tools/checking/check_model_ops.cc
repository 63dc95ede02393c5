#include "tools/checking/check_model_ops.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "core/device/op_call.h"
#include "core/ops/check/check_cases.h"
#include "train/engine/step_record.h"

namespace strake {

std::vector<OpCheck> ModelOps(const CheckCommand& command) {
  const CheckConfig& c = command.config;
  const int64_t num_micro_batches = c.global_batch / c.micro_batch / c.layout.dp;
  const auto calls_of = [&](int rank) {
    return RecordStep(command.RankOptions(), c.layout.sizes(), rank, num_micro_batches).calls;
  };
  std::vector<OpCall> calls = calls_of(0);
  if (c.layout.tp > 1) {
    absl::flat_hash_set<std::string> known;
    for (const OpCall& call : calls) known.insert(call.ToString());
    for (OpCall& call : calls_of(static_cast<int>(c.layout.tp) - 1)) {
      if (known.contains(call.ToString())) continue;
      call.layer += " of the last rank";
      call.times = 0;
      calls.push_back(std::move(call));
    }
  }
  return ChecksOf(calls);
}

}  // namespace strake
