// Causal attention in bf16 by cuDNN's fused kernels, without its headers.
//
// B sequences of T tokens, H query heads, KV key/value heads, D head size. The formulas are those
// of core/ops/attention/causal_attention.h: scores are scaled by 1 / sqrt(D), and lse is the
// natural logarithm of the sum of their exponentials. qkv and dqkv [B*T, (H + 2 KV) * D], y and dy
// [B*T, H*D] in bf16, where they are: heads are strided views of a fused matrix, and nothing is
// transposed. lse [B, H, T] in f32. All aligned to 16 bytes, in device memory.
#ifndef STRAKE_CORE_CUDA_CUDNN_ATTENTION_H_
#define STRAKE_CORE_CUDA_CUDNN_ATTENTION_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "core/cuda/cudnn_attention_shape.h"
#include "core/cuda/stream.h"

namespace strake {

// One rank's handle and kernels, used on its thread. Which kernels is what the library's heuristic
// answers for shape and GPU: the same in every process, and never chosen by a timing. The backward
// pass is the deterministic one. Gives the same bits every time.
class CudnnAttention {
 public:
  // For GPU `device`, the calling thread's. Loads nothing yet.
  static std::unique_ptr<CudnnAttention> Create(int device);

  CudnnAttention() = default;
  virtual ~CudnnAttention() = default;
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // Makes both passes ready for a shape, or says why cuDNN does not compute it: the build has none,
  // the library is missing or too old, it refuses the shape, or it wants more memory than planned.
  // The answer to a shape stays the same. The first call for it takes about a second, allocates,
  // and may not be within the recording of a CUDA graph.
  virtual absl::Status Prepare(const CudnnAttentionShape& shape) = 0;

  // Enqueued on `stream`; the shape is prepared. Internal, with cuDNN's text and the shape, where
  // it fails all the same. The workspaces' contents do not matter.
  virtual absl::Status Forward(CudaStream stream, const CudnnAttentionShape& shape, const void* qkv,
                               void* y, float* lse, void* workspace) = 0;
  // From the forward pass's qkv, y and lse. dqkv is none of them.
  virtual absl::Status Backward(CudaStream stream, const CudnnAttentionShape& shape, const void* dy,
                                const void* qkv, const void* y, const float* lse, void* dqkv,
                                void* workspace) = 0;

  // What is to be planned for a workspace: known before there is a GPU or a library, so that a dry
  // run allocates what the run does. 0 in a build without cuDNN and for what it does not take.
  static size_t ForwardWorkspaceBytes(const CudnnAttentionShape& shape);
  static size_t BackwardWorkspaceBytes(const CudnnAttentionShape& shape);
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDNN_ATTENTION_H_
