// CheckOp: one op against its definition in f64, on inputs of the sizes that a model gives it.
//
// An op to be checked is data: its tensors, and a function that runs it on them. The function runs
// on the device and in the dtype of the check, with the implementations that training uses, and on
// f64 tensors of the same values with the reference; what it writes is then compared.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_OP_H_
#define STRAKE_TOOLS_CHECKING_CHECK_OP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "core/base/op_profile.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "tools/checking/check_line.h"

namespace strake {

enum class OpRole { kInput, kOutput, kInOut };

// Of a tensor, given the model's dtype: that; AccumulationDType() of it, for statistics, losses,
// gradients of parameters and the optimizer's state; f64 in every run.
enum class OpDType { kModel, kSum, kF64 };

// A tensor of an op. Inputs are normal numbers, rounded to the checked run's dtype for both runs;
// what is only written begins as NaN, so that what nothing wrote shows.
struct OpTensor {
  std::string name;
  Shape shape;
  OpRole role = OpRole::kInput;
  double mean = 0, stddev = 1;
  // Of what is written, for RoundingTolerance(). Both 0: the bits of the definition.
  double num_terms = 0, num_roundings = 0;
  // In bf16, how often what leads to it is rounded to that; for Bf16Tolerance(), with one more
  // where this is the model's dtype.
  double num_stores = 0;
  OpDType dtype = OpDType::kModel;
  // An input of these token ids (i32, in host memory) instead of numbers; read when the op runs.
  Tensor tokens = {};
};

struct OpCheck {
  using Run = std::function<absl::Status(const Context&, const std::vector<Tensor>&)>;

  std::string op;
  Pass pass = Pass::kForward;
  std::string layers;     // who calls it
  int64_t num_calls = 0;  // by the first rank, for one micro-batch
  std::vector<OpTensor> tensors;
  Run run = nullptr;
  // Null, or sets inputs that follow from others, as the statistics that a forward pass saves; runs
  // before `run`, in f64 alone.
  Run prepare = nullptr;
};

// What the checked run is on. On a GPU all but planning needs `cuda`.
struct OpMachine {
  ThreadTeam* team = nullptr;
  OpSet op_set = OpSet::kAuto;
  DType dtype = DType::kF32;  // f32, or bf16 on a GPU
  Device device = Device::kCpu;
  CudaContext* cuda = nullptr;
};

// What CheckOp() allocates: in host memory, and on the GPU.
struct OpCheckBytes {
  size_t host = 0, device = 0;
};
OpCheckBytes PlanOpCheck(const OpCheck& check, const OpMachine& machine);

// A line for each tensor that the op writes. The error of the op, or ResourceExhausted.
absl::StatusOr<std::vector<CheckLine>> CheckOp(const OpCheck& check, uint64_t seed,
                                               const OpMachine& machine);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_OP_H_
