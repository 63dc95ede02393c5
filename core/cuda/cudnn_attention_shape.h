// Which attentions cuDNN is asked for, and the memory that is planned for it, without cuDNN.
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

  std::string ToString() const;
};

// InvalidArgument, with the reason, for what cuDNN is never asked for: it has heads of other sizes
// than 64 and 128 too, and short sequences, but nobody trains them.
absl::Status CheckCudnnTakes(const CudnnAttentionShape& shape);

// FailedPrecondition for a cuDNN that is too old: `version` is cudnnGetVersion()'s.
absl::Status CheckCudnnVersion(int64_t version, absl::string_view path);

// Memory planned for either pass: at least what cuDNN 9.19 and 9.26 want on sm_80, sm_90 and
// sm_100. The deterministic backward pass has a T x T matrix for each head in bf16, but on sm_100.
size_t CudnnForwardWorkspaceBytes(const CudnnAttentionShape& shape);
size_t CudnnBackwardWorkspaceBytes(const CudnnAttentionShape& shape);

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDNN_ATTENTION_SHAPE_H_
