// CheckOp: one op against its definition in f64, on inputs of the sizes that a model gives it.
//
// An op to be checked is data: its tensors, and a function that runs it on them. The function runs
// on f32 tensors with the implementations that training uses, and on f64 tensors of the same values
// with the reference; what it writes is then compared.
#ifndef STRAKE_TOOLS_CHECK_OP_H_
#define STRAKE_TOOLS_CHECK_OP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "tools/check_line.h"

namespace strake {

enum class OpRole { kInput, kOutput, kInOut };

// A floating-point tensor of an op. Inputs are normal numbers, rounded to f32 for both runs; what
// is only written begins as NaN, so that what nothing wrote shows.
struct OpTensor {
  std::string name;
  Shape shape;
  OpRole role = OpRole::kInput;
  double mean = 0, stddev = 1;
  // Of what is written, for RoundingTolerance(). Both 0: the bits of the definition.
  double num_terms = 0, num_roundings = 0;
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

// The largest that CheckOp() allocates.
size_t OpCheckBytes(const OpCheck& check, ThreadTeam& team, OpSet op_set);

// A line for each tensor that the op writes. The error of the op, or ResourceExhausted.
absl::StatusOr<std::vector<CheckLine>> CheckOp(const OpCheck& check, uint64_t seed,
                                               ThreadTeam& team, OpSet op_set);

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECK_OP_H_
