// OpCheck: one call of an op, to be compared with its reference in f64. It holds the tensors, how
// their inputs are generated, the error that each output may have, and a function that runs the op.
//
// Each op's folder has its check case, <op>_check.h: a function from a recorded call (OpCall) to an
// OpCheck, made of the parts below. CheckCaseOf() (check_cases.h) finds it by the op's name, and
// CheckOp() (run_check.h) runs the OpCheck.
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

// How an output is rounded, for RoundingTolerance(); no rounding means the bits of the reference.
// In bf16, the values that lead to it are rounded to bf16 `num_stores` times, for Bf16Tolerance(),
// and once more if the output itself is bf16.
struct Rounding {
  double num_terms = 0, num_roundings = 0, num_stores = 0;
};
inline constexpr Rounding kExact = {};

// Inputs are normal numbers, rounded to the tensor's dtype for both runs, or i32 token ids, or i64
// zeros. Tensors that are only written begin as NaN, or i64 ones as a huge number, so that an
// element that nothing wrote shows.
struct OpTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  OpRole role = OpRole::kInput;
  double mean = 0, stddev = 1;
  Rounding rounding = {};
  int64_t num_tokens = 0;         // ids are below it; small ones are frequent, as in text
  std::vector<int32_t> ids = {};  // all of them, where they are not random
};

using Tensors = std::vector<Tensor>;

struct OpCheck {
  using Run = std::function<absl::Status(const Context&, const Tensors&)>;

  std::string op = {};
  Pass pass = Pass::kForward;
  std::string layers = {};  // the callers
  int64_t num_calls = 0;    // in the record that the check comes from
  std::vector<OpTensor> tensors = {};
  Run run = nullptr;
  // Null, or sets inputs that follow from others, such as the statistics that a forward pass saves.
  // It runs before `run`, in f64 only.
  Run prepare = nullptr;
};

// The scales of a newly initialized model: a residual stream of unit variance with non-zero mean,
// and weights as small as initial ones.
inline constexpr double kResidualMean = 0.5;
inline constexpr double kWeightStddev = 0.02;

// Tensors of a check, each with the dtype and shape of an operand of the call. InOut() takes an
// operand of any role, because a model overwrites many an input.
OpTensor In(const OpCall& call, const char* operand, double mean = 0, double stddev = 1);
OpTensor Out(const OpCall& call, const char* operand, Rounding rounding);
OpTensor InOut(const OpCall& call, const char* operand, Rounding rounding, double mean = 0,
               double stddev = 1);
OpTensor Weight(const OpCall& call, const char* operand);
OpTensor Tokens(const OpCall& call, const char* operand);  // ids below the call's vocab_size
OpTensor Ids(const OpCall& call, const char* operand, std::vector<int32_t> ids);  // these
// A parameter's gradient, which the op accumulates into.
OpTensor Grad(const OpCall& call, const char* operand, double num_terms, double num_roundings = 3);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CHECK_OP_CHECK_H_
