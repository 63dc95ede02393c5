// Compares an op in f32 and bf16, on the CPU and on a GPU, with the same op on the CPU in f64.
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

// A tensor of an op, in any role. Every tensor begins with random numbers.
struct ParityOperand {
  Shape shape;
  DType dtype = DType::kF32;  // the truth has the same values in f64, or i32
  // Limit of RelativeError() to the truth after the op: 0 for what is copied, or not written.
  double tolerance = 0;
  int64_t num_tokens = 0;  // i32 operands are in [0, num_tokens)
};

using ParityOp =
    absl::FunctionRef<absl::Status(const Context& ctx, const std::vector<Tensor>& operands)>;

// Runs the op on a GPU and on the CPU, there with each set of vector instructions that the machine
// has. Also checks that a dry run plans exactly what a run allocates.
void ExpectFollowsF64(const std::vector<ParityOperand>& operands, ParityOp op);

// The same on the CPU alone.
void ExpectCpuFollowsF64(const std::vector<ParityOperand>& operands, ParityOp op);

// The error of a sum of n terms of random sign is about sqrt(n) roundings of its largest partial
// sums, plus the roundings of the operations of each term; the factor 4 is for the tail. Sums are
// in f32, as all sums are.
inline double F32SumTolerance(int64_t num_terms, int num_roundings = 8) {
  return 4 * (std::sqrt(static_cast<double>(num_terms)) + num_roundings) * 0x1p-24;
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_PARITY_H_
