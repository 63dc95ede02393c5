// The attention shapes that cuDNN is used for, and the memory planned for them. Needs no cuDNN.
#ifndef STRAKE_CORE_CUDA_CUDNN_ATTENTION_SHAPE_H_
#define STRAKE_CORE_CUDA_CUDNN_ATTENTION_SHAPE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

struct CudnnAttentionShape {
  int64_t batch = 0;         // B
  int64_t seq_len = 0;       // T
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // KV
  int64_t head_dim = 0;      // D
  // The backward pass gives the same bits every time if true. Otherwise blocks add to the gradient
  // of the queries in whatever order they run.
  bool deterministic = true;
  // See core/ops/attention/attention_shape.h.
  int64_t window = 0;
  double score_scale = 0;
  double score_softcap = 0;
  // The most documents that the B sequences hold, a multiple of B. The forward pass takes all at
  // once; the backward pass, whose workspace is large, B at a time. 0: each sequence is one.
  int64_t num_documents = 0;

  // Returns true if the window hides a key from a query after it.
  bool HasWindow() const { return window > 0 && window < seq_len; }
  std::string ToString() const;
};

// Returns InvalidArgument, with the reason, for shapes that cuDNN is never used for. cuDNN also
// supports other head sizes up to 128, and short sequences, but nobody trains them; 9.19 has a
// backward pass for heads of 256 on sm_90 alone. It has no option for soft caps: its frontend takes
// them as pointwise operations in place of its masks, for which 9.19 has a deterministic backward
// pass on sm_90 alone.
absl::Status CheckCudnnTakes(const CudnnAttentionShape& shape);

// Returns FailedPrecondition if cuDNN is too old; `version` is the result of cudnnGetVersion().
absl::Status CheckCudnnVersion(int64_t version, absl::string_view path);

// The number of documents that cuDNN is used for in B sequences of T tokens. Each B of them are one
// more execution of the backward pass, with the blocks of B sequences of T tokens, and a document
// that is not there still has blocks, which end at once. So at most 16 for each sequence, and none
// for documents of a mean length below a tile's 64 tokens.
int64_t CudnnMaxDocuments(int64_t batch, int64_t seq_len);

// Memory planned for either pass: at least what cuDNN 9.19 and 9.28 need on sm_80, sm_90 and
// sm_100, with a window or without. The deterministic backward pass needs a T x T matrix per head
// in bf16, except on sm_100; the other one the gradient of the queries in f32, on sm_80 twice. With
// documents, each of an execution adds descriptors of its tensors.
size_t CudnnForwardWorkspaceBytes(const CudnnAttentionShape& shape);
size_t CudnnBackwardWorkspaceBytes(const CudnnAttentionShape& shape);

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDNN_ATTENTION_SHAPE_H_
