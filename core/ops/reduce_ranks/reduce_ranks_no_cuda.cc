// reduce_ranks.h in a build without CUDA.
#include "core/cuda/no_cuda.h"
#include "core/ops/reduce_ranks/reduce_ranks_cuda.h"

namespace strake::cuda {

absl::Status SumRanks(CudaStream, DType, absl::Span<const void* const>, int64_t,
                      absl::Span<void* const>) {
  return NoCuda();
}

absl::Status MaxRanks(CudaStream, DType, absl::Span<const void* const>, int64_t,
                      absl::Span<void* const>) {
  return NoCuda();
}

}  // namespace strake::cuda
