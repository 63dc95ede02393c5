#include "tests/check_subject.h"

#include <ostream>
#include <utility>

#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "models/families/family.h"
#include "tools/checking/check_model_ops.h"
#include "tools/checking/check_run.h"

namespace strake::testing {

CheckCommand TinyCheckCommand(const ModelFamily* family, LayoutConfig layout,
                              MachineConfig machine) {
  return TinyCheckCommand(FindLayoutModel(family->model_type), std::move(layout),
                          std::move(machine));
}

CheckCommand TinyCheckCommand(const LayoutModel& model, LayoutConfig layout,
                              MachineConfig machine) {
  CheckCommand command;
  ModelConfig& c = command.model;
  c = model.features;
  c.vocab_size = 37;
  c.max_positions = 8;
  c.hidden_size = 16;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = model.grouped_heads ? 1 : 4;
  c.head_dim = 4;
  c.intermediate_size = 24;
  c.initializer_range = 0.3;
  command.config.seq_len = 8;
  command.config.micro_batch = 2;
  command.config.global_batch = 4 * layout.dp;
  command.config.machine = machine;
  command.config.machine.threads = 1;
  command.config.layout = layout;
  return command;
}

Progress& Nowhere() {
  static auto* stream = new std::ostream(nullptr);
  static auto* nowhere = new Progress(stream, 0);
  return *nowhere;
}

CheckSubject::CheckSubject(const CheckCommand& command) : command(command) {
  auto loaded = LoadStepBatch(command);
  CHECK(loaded.ok()) << loaded.status();
  batch = std::move(*loaded);
  ops = ModelOps(command);
}

CheckReport CheckSubject::CheckOpsOf(const std::vector<OpCheck>& table) const {
  auto lines = CheckOps(command, table, &Nowhere());
  CHECK(lines.ok()) << lines.status();
  return {.ops = std::move(*lines)};
}

std::unique_ptr<WholeStep> CheckSubject::Truth() const {
  auto truth = ComputeWholeStep(command, batch, &Nowhere());
  CHECK(truth.ok()) << truth.status();
  return std::move(*truth);
}

void CheckSubject::ForEachOutput(absl::FunctionRef<void(size_t, size_t)> body) const {
  for (size_t i = 0; i < ops.size(); ++i) {
    for (size_t j = 0; j < ops[i].tensors.size(); ++j) {
      if (ops[i].tensors[j].role != OpRole::kInput) body(i, j);
    }
  }
}

absl::Status Edit(const Tensor& x, absl::FunctionRef<void(const Tensor& on_host)> change) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(x));
  change(host);
  return host.WriteBack();
}

OpCheck WithFault(const OpCheck& check, OpCheck::Run faulty) {
  OpCheck copy = check;
  copy.run = [run = check.run, faulty = std::move(faulty)](const Context& ctx,
                                                           const std::vector<Tensor>& t) {
    const bool checked = !ctx.reference() && !ctx.dry_run();
    return checked ? faulty(ctx, t) : run(ctx, t);
  };
  return copy;
}

OpCheck WithFaultAfter(const OpCheck& check, size_t j,
                       std::function<void(const Tensor& on_host)> change) {
  return WithFault(check,
                   [run = check.run, j, change = std::move(change)](
                       const Context& ctx, const std::vector<Tensor>& t) -> absl::Status {
                     STRAKE_RETURN_IF_ERROR(run(ctx, t));
                     return Edit(t[j], change);
                   });
}

void Negate(const Tensor& x) {
  for (int64_t i = 0; i < x.num_elements(); ++i) SetElement(x, i, -GetElement(x, i));
}

void ChangeLast(const Tensor& x, double error) {
  const int64_t last = x.num_elements() - 1;
  SetElement(x, last, GetElement(x, last) + error * MaxAbs(x));
}

}  // namespace strake::testing
