// RoPE on CUDA. See core/ops/rope/rope.h for the formulas and the table.
//
// N < 2^31 tokens in sequences of seq_len; rotary_dim is even. T: float or Bf16; rotated in f32.
// Work is enqueued on `stream`; the call does not wait for it. Gives the same bits every time.
// Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_CUDA_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/rope/rope_args.h"

namespace strake::cuda {

// See core/ops/rope/rope_args.h; the table's rows must exist. All tensors are in device memory;
// 128-bit accesses where rotary_dim / 2, head_dim, stride and the addresses allow it.
template <typename T>
absl::Status Rope(CudaStream stream, const RopeArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_ROPE_KERNELS(KERNEL) KERNEL(Rope, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_CUDA_H_
