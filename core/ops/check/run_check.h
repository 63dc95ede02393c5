// CheckOp: runs an op as training runs it, on a device, and with the reference on f64 tensors of
// the same values, and compares the outputs.
#ifndef STRAKE_CORE_OPS_CHECK_RUN_CHECK_H_
#define STRAKE_CORE_OPS_CHECK_RUN_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/ops/check/op_check.h"
#include "core/tensor/tensor.h"

namespace strake {

// The machine that the checked run uses. On a GPU everything but planning needs `cuda`.
struct OpMachine {
  ThreadTeam* team = nullptr;
  OpSet op_set = OpSet::kAuto;
  Device device = Device::kCpu;
  CudaContext* cuda = nullptr;
};

// The bytes that CheckOp() allocates, in host memory and on the GPU.
struct OpCheckBytes {
  size_t host = 0, device = 0;
};
OpCheckBytes PlanOpCheck(const OpCheck& check, const OpMachine& machine);

// The result for one tensor that the op writes.
struct OpCheckResult {
  std::string tensor;
  Shape shape;
  double error = 0;  // of the largest element; infinite where a number is NaN
  double tolerance = 0;
  Shape index;  // where the largest difference is

  bool ok() const { return error <= tolerance; }
};

// Returns one result per written tensor. Returns the op's error, or ResourceExhausted.
absl::StatusOr<std::vector<OpCheckResult>> CheckOp(const OpCheck& check, uint64_t seed,
                                                   const OpMachine& machine);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CHECK_RUN_CHECK_H_
