// An op in f32 and bf16, on the CPU and on a GPU, against the same op on the CPU in f64.
#ifndef STRAKE_CORE_TESTING_CUDA_PARITY_H_
#define STRAKE_CORE_TESTING_CUDA_PARITY_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake::testing {

// A tensor of an op, whatever it is to it: each begins with random numbers.
struct ParityOperand {
  Shape shape;
  DType dtype = DType::kF32;  // the truth has the same values in f64, or i32
  // RelativeError() to the truth after the op: 0 for what is moved, or not written.
  double tolerance = 0;
  int64_t num_tokens = 0;  // i32 operands are in [0, num_tokens)
};

using ParityOp =
    absl::FunctionRef<absl::Status(const Context& ctx, const std::vector<Tensor>& operands)>;

// On a GPU and on the CPU, there with each set of vector instructions that the machine has. Also
// that a dry run plans just what a run allocates.
void ExpectFollowsF64(const std::vector<ParityOperand>& operands, ParityOp op);

// On the CPU alone.
void ExpectCpuFollowsF64(const std::vector<ParityOperand>& operands, ParityOp op);

// A sum of n terms of random sign errs by about sqrt(n) roundings of its largest partial sums, each
// term by the roundings of its own operations; factor 4 for the tail. In f32, as all sums are.
inline double F32SumTolerance(int64_t num_terms, int num_roundings = 8) {
  return 4 * (std::sqrt(static_cast<double>(num_terms)) + num_roundings) * 0x1p-24;
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_PARITY_H_
