// Subjects for tests of //tools:check: small models, and faults planted in their ops.
#ifndef STRAKE_TESTS_CHECK_SUBJECT_H_
#define STRAKE_TESTS_CHECK_SUBJECT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/ops/check/op_check.h"
#include "core/tensor/tensor.h"
#include "models/model_config.h"
#include "tests/layout_model.h"
#include "tools/checking/check_batch.h"
#include "tools/checking/check_config.h"
#include "tools/checking/check_report.h"
#include "tools/checking/check_step.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/progress.h"

namespace strake::testing {

// Two layers of a model with every feature of its kind; the vocabulary is padded on two ranks.
CheckCommand TinyCheckCommand(const LayoutModel& model, LayoutConfig layout = {},
                              MachineConfig machine = {});
CheckCommand TinyCheckCommand(const ModelFamily* family, LayoutConfig layout = {},
                              MachineConfig machine = {});

Progress& Nowhere();

struct CheckSubject {
  explicit CheckSubject(const CheckCommand& command);

  CheckReport CheckOpsOf(const std::vector<OpCheck>& table) const;
  std::unique_ptr<WholeStep> Truth() const;
  // Calls body(i, j) for every tensor j that an op i of the table writes.
  void ForEachOutput(absl::FunctionRef<void(size_t, size_t)> body) const;

  const CheckCommand command;
  StepBatch batch;
  std::vector<OpCheck> ops;
};

// Changes a tensor's elements, on either device.
absl::Status Edit(const Tensor& x, absl::FunctionRef<void(const Tensor& on_host)> change);

// Returns `check` with another implementation under test; the definition in f64 is kept.
OpCheck WithFault(const OpCheck& check, OpCheck::Run faulty);
// Returns `check` with a change of its tensor `j` afterwards.
OpCheck WithFaultAfter(const OpCheck& check, size_t j,
                       std::function<void(const Tensor& on_host)> change);

// Faults: every sign is wrong; only the last element is wrong, by `error` of the largest.
void Negate(const Tensor& x);
void ChangeLast(const Tensor& x, double error);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_CHECK_SUBJECT_H_
