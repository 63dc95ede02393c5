// Reductions over ranks that share a GPU, always in the order of ranks, from rank 0 up. The bits
// are those of parallel/comm/reduce_in_rank_order.h, whichever rank enqueues the work.
//
//   sum:  outputs[d][i] = ((inputs[0][i] + inputs[1][i]) + inputs[2][i]) + ...   for every d
//   max:  outputs[d][i] = max(inputs[0][i], inputs[1][i], ...)                   for every d
//
// `count` elements; inputs in rank order, at least one; an output may be an input. dtypes: all for
// the sum, all but c128 for max. bf16 is summed in f32 and rounded once, integers wrap, and max is
// NaN if any input is. Tensors are packed, in device memory; 128-bit accesses where the addresses
// allow it. Work is enqueued on `stream`; the call does not wait for it. Returns InvalidArgument
// for more than kMaxReducedRanks inputs or outputs, and an error for a launch that the device
// refuses.
#ifndef STRAKE_CORE_OPS_REDUCE_RANKS_REDUCE_RANKS_CUDA_H_
#define STRAKE_CORE_OPS_REDUCE_RANKS_REDUCE_RANKS_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// A limit, because the addresses are arguments of the kernel.
inline constexpr int kMaxReducedRanks = 64;

enum class RankReduction { kSum, kMax };

struct ReduceRanksArgs {
  RankReduction reduction;
  DType dtype;
  absl::Span<const void* const> inputs;
  int64_t count;
  absl::Span<void* const> outputs;
};
absl::Status ReduceRanks(CudaStream stream, const ReduceRanksArgs& args);

// See core/cuda/kernel_list.h.
#define STRAKE_REDUCE_RANKS_KERNELS(KERNEL) KERNEL(ReduceRanks)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_REDUCE_RANKS_REDUCE_RANKS_CUDA_H_
