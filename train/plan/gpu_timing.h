// Times of work on a GPU, for measurements of what it can do.
#ifndef STRAKE_TRAIN_PLAN_GPU_TIMING_H_
#define STRAKE_TRAIN_PLAN_GPU_TIMING_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/stream.h"

namespace strake {

// Seconds per call, the shortest of several runs of several calls between events.
absl::StatusOr<double> BestSeconds(CudaStream stream, absl::FunctionRef<absl::Status()> enqueue);

// Memory with numbers in [-1, 1), of f32 or bf16. Power, and with it the clock, depends on how
// random the bits are.
absl::StatusOr<CudaMemory> RandomNumbers(DType dtype, int64_t count, uint64_t seed,
                                         CudaStream stream);

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_GPU_TIMING_H_
