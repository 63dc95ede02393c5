// CudaContext: one rank's GPU, its streams and its handles.
#ifndef STRAKE_CORE_DEVICE_CUDA_CONTEXT_H_
#define STRAKE_CORE_DEVICE_CUDA_CONTEXT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/cuda/cublaslt.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/cudnn_attention.h"
#include "core/cuda/product_tuning.h"
#include "core/cuda/stream.h"

namespace strake {

// Used on the thread that created it; the GPU is that thread's current device. Several ranks may
// share a GPU.
class CudaContext {
 public:
  // Takes from `tunings`, which must outlive the context, the one for a GPU of this name, if there
  // is one. Returns the errors of core/cuda/cuda_messages.h.
  static absl::StatusOr<std::unique_ptr<CudaContext>> Create(
      int device, absl::Span<const ProductTuning> tunings = {});

  int device() const { return device_; }
  // The stream on which every op of the rank is enqueued, one after the other.
  CudaStream stream() const { return stream_.get(); }
  CublasLt& cublaslt() const { return *cublaslt_; }
  CudnnAttention& cudnn_attention() const { return *cudnn_attention_; }

 private:
  CudaContext() = default;

  int device_ = 0;
  CudaOwnStream stream_;
  std::unique_ptr<CublasLt> cublaslt_;
  std::unique_ptr<CudnnAttention> cudnn_attention_;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_CUDA_CONTEXT_H_
