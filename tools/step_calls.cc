// Prints the calls of a training step on one rank, ops and collectives, as JSON:
// `bazel run //tools:step_calls -- --help`.

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/base/json.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/device/op_call.h"
#include "models/families/families.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/step_config.h"
#include "tools/cli/user_paths.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const OpCall& call) {
  Json json = {{"op", call.op}, {"pass", PassName(call.pass)}, {"layer", call.layer}};
  if (call.is_collective()) {
    json["axis"] = call.axis;
    json["ranks"] = call.num_ranks;
  }
  json["times"] = call.times;
  json["flops"] = call.cost.flops;
  json["bytes"] = call.cost.bytes;
  json["operands"] = Json::array();
  for (const OpOperand& operand : call.operands) {
    const std::vector<int64_t> shape(operand.shape.begin(), operand.shape.end());
    json["operands"].push_back({{"name", operand.name},
                                {"role", OpRoleName(operand.role)},
                                {"dtype", DTypeName(operand.dtype)},
                                {"shape", shape}});
  }
  json["attributes"] = Json::object();
  for (const OpAttribute& attribute : call.attributes) {
    json["attributes"][attribute.name] = attribute.value;
  }
  return json;
}

Json Report(Json settings, const ModelConfig& model, int64_t seq_len, const StepRecord& record) {
  settings["parameters"] = NumParameters(model);
  settings["flops_per_token"] = TrainingFlopsPerToken(model, seq_len);
  settings["planned_bytes"] = record.memory.total_bytes();
  settings["calls"] = Json::array();
  for (const OpCall& call : record.calls) settings["calls"].push_back(ToJson(call));
  return settings;
}

absl::Status PrintStepCalls(int argc, char** argv) {
  ChangeToUserDirectory();
  StepConfig config;
  OptionSet options("step_calls");
  AddStepOptions(&config, &options);
  options.Group("Rank");
  options.Add("rank", &config.rank, "the rank whose calls are printed", Range::AtLeast(0));
  const std::string help = options.Help();
  STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
  if (options.help_requested()) {
    std::cout << help;
    return FlushStdout();
  }
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(config.model, /*notices=*/nullptr));
  STRAKE_RETURN_IF_ERROR(ResolveStep(options, model, &config));
  const StepRecord record = RecordStep(config.RankOptions(model), config.layout.sizes(),
                                       static_cast<int>(config.rank), config.num_micro_batches());
  std::cout << JsonText(Report(options.ToJson(), model, config.seq_len, record)) << "\n";
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::PrepareProcess();
  if (strake::HasVersionFlag(argc, argv)) return strake::PrintVersion();
  return strake::ExitCode(strake::PrintStepCalls(argc, argv));
}
