// OpCheck: one call of an op, to be compared with its definition in f64: its tensors, how they are
// fed, what error they may have, and a function that runs the op on them.
//
// Each op's folder has its check case, <op>_check.h: a function from a recorded call (OpCall) to an
// OpCheck, made of the parts below. CheckCaseOf() (check_cases.h) finds it by the op's name, and
// CheckOp() (run_check.h) runs what it gives.
#ifndef STRAKE_CORE_OPS_CHECK_OP_CHECK_H_
#define STRAKE_CORE_OPS_CHECK_OP_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/base/op_profile.h"
#include "core/device/context.h"
#include "core/device/op_call.h"
#include "core/tensor/tensor.h"

namespace strake {

// Roundings of what is written, for RoundingTolerance(): none give the bits of the definition. In
// bf16 what leads to it is rounded to that `num_stores` times, for Bf16Tolerance(), with one more
// where it is bf16 itself.
struct Rounding {
  double num_terms = 0, num_roundings = 0, num_stores = 0;
};
inline constexpr Rounding kExact = {};

// Inputs are normal numbers, rounded to the tensor's dtype for both runs, or of i32 token ids. What
// is only written begins as NaN, so that what nothing wrote shows.
struct OpTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  OpRole role = OpRole::kInput;
  double mean = 0, stddev = 1;
  Rounding rounding = {};
  int64_t num_tokens = 0;  // ids are below; small ones come often, as in text
};

using Tensors = std::vector<Tensor>;

struct OpCheck {
  using Run = std::function<absl::Status(const Context&, const Tensors&)>;

  std::string op = {};
  Pass pass = Pass::kForward;
  std::string layers = {};  // who calls it
  int64_t num_calls = 0;    // in the record that it is from
  std::vector<OpTensor> tensors = {};
  Run run = nullptr;
  // Null, or sets inputs that follow from others, as the statistics that a forward pass saves; runs
  // before `run`, in f64 alone.
  Run prepare = nullptr;
};

// The scales of a model that has just been made: a residual stream of unit variance that is not
// centred, weights as small as initial ones.
inline constexpr double kResidualMean = 0.5;
inline constexpr double kWeightStddev = 0.02;

// Tensors of a check, each with dtype and shape of an operand of the call. InOut() is of whatever
// role the operand has: a model writes over many an input.
OpTensor In(const OpCall& call, const char* operand, double mean = 0, double stddev = 1);
OpTensor Out(const OpCall& call, const char* operand, Rounding rounding);
OpTensor InOut(const OpCall& call, const char* operand, Rounding rounding, double mean = 0,
               double stddev = 1);
OpTensor Weight(const OpCall& call, const char* operand);
OpTensor Tokens(const OpCall& call, const char* operand);  // of its vocab_size
// A parameter's gradient, which is added to.
OpTensor Grad(const OpCall& call, const char* operand, double num_terms, double num_roundings = 3);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CHECK_OP_CHECK_H_
