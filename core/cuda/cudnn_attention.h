// Causal attention in bf16 by cuDNN's fused kernels, in a header that does not include cuDNN's.
//
// B sequences of T tokens, H query heads, KV key/value heads, D head size. The formulas are those
// of core/ops/attention/causal_attention.h, with windows and scales and without soft caps; lse is
// the natural logarithm of the sum of the scores' exponentials. qkv and dqkv are [B*T, (H + 2 KV) *
// D], y and dy [B*T, H*D], in bf16; heads are strided views of the fused matrix, and nothing is
// transposed or copied. lse is [B, H, T] in f32. All tensors are aligned to 16 bytes, in device
// memory.
#ifndef STRAKE_CORE_CUDA_CUDNN_ATTENTION_H_
#define STRAKE_CORE_CUDA_CUDNN_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "core/cuda/cudnn_attention_shape.h"
#include "core/cuda/stream.h"

namespace strake {

// Documents within the sequences, in device memory, as DocumentRanges() of
// core/ops/attention/causal_attention_cuda.h makes them: groups of one document for each entry of
// an execution. They are read when the work runs, so a captured graph follows them.
struct CudnnDocuments {
  const int32_t* lengths;
  const int64_t *fused, *output, *lse;
  int64_t num_groups, length_stride, offset_stride;
};

// One rank's handle and kernels, used on its thread. The library's heuristic chooses the kernels
// from shape and GPU: the same in every process, and never from a timing. Gives the same bits
// every time, except for the backward pass of a shape that says otherwise.
class CudnnAttention {
 public:
  // For GPU `device`, the calling thread's current device. Loads nothing yet.
  static std::unique_ptr<CudnnAttention> Create(int device);

  CudnnAttention() = default;
  virtual ~CudnnAttention() = default;
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // Prepares both passes for a shape, or returns why cuDNN cannot compute it: the build has no
  // cuDNN, the library is missing or too old, it refuses the shape, or it wants more memory than
  // planned. The answer for a shape never changes. The first call for a shape takes about a second
  // and allocates, and must not happen during the capture of a CUDA graph.
  virtual absl::Status Prepare(const CudnnAttentionShape& shape) = 0;

  // Enqueues the pass on `stream`. A shape with documents takes them, in one group for the forward
  // pass and in groups of B for the backward pass, and nothing but their rows is written. The shape
  // must be prepared. Returns Internal, with cuDNN's text and the shape, if it fails nevertheless.
  // The workspaces' contents do not matter.
  virtual absl::Status Forward(CudaStream stream, const CudnnAttentionShape& shape, const void* qkv,
                               void* y, float* lse, void* workspace,
                               const CudnnDocuments& documents = {}) = 0;
  // Takes the forward pass's qkv, y and lse. dqkv must not be one of them.
  virtual absl::Status Backward(CudaStream stream, const CudnnAttentionShape& shape, const void* dy,
                                const void* qkv, const void* y, const float* lse, void* dqkv,
                                void* workspace, const CudnnDocuments& documents = {}) = 0;

  // Bytes to plan for a workspace. They are known without a GPU or the library, so that a dry run
  // allocates what the run does. 0 in a build without cuDNN, and for shapes that it does not take.
  static size_t ForwardWorkspaceBytes(const CudnnAttentionShape& shape);
  static size_t BackwardWorkspaceBytes(const CudnnAttentionShape& shape);
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDNN_ATTENTION_H_
