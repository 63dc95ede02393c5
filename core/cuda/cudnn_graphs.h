// Attention's passes as graphs of cuDNN's frontend. Throws no exceptions; includes cuDNN's headers.
#ifndef STRAKE_CORE_CUDA_CUDNN_GRAPHS_H_
#define STRAKE_CORE_CUDA_CUDNN_GRAPHS_H_

#include <cudnn_frontend.h>

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/cuda/cudnn_attention_shape.h"

namespace strake {

// The target that graphs are compiled for.
struct CudnnTarget {
  int architecture = 0;  // 90 for sm_90; that of the handle's GPU
  cudnnHandle_t handle = nullptr;
  // Instead of the handle, to compile where there is no GPU.
  std::shared_ptr<const cudnn_frontend::DeviceProperties> properties;
};

// Names of a graph's tensors, for passing their addresses.
enum CudnnTensor : int64_t {
  kQ = 1,
  kK,
  kV,
  kY,
  kLse,
  kDy,
  kDq,
  kDk,
  kDv,
  // With documents: lengths [E] i32; where each begins, [E + 1] i64.
  kQueryLengths,
  kKeyLengths,
  kFusedOffsets,
  kOutputOffsets,
  kLseOffsets
};

using CudnnGraph = std::unique_ptr<cudnn_frontend::graph::Graph>;

// Loads cuDNN into the process, once. Returns NotFound, with the loader's reason, if it is not
// installed, and FailedPrecondition if it is too old.
absl::Status LoadCudnn();

// Compiles the kernels. Call LoadCudnn() first. Returns Internal, with cuDNN's text, if it has no
// kernel for the shape.
absl::StatusOr<CudnnGraph> BuildCudnnForward(const CudnnTarget& target,
                                             const CudnnAttentionShape& shape);
absl::StatusOr<CudnnGraph> BuildCudnnBackward(const CudnnTarget& target,
                                              const CudnnAttentionShape& shape);

// Calls the frontend, which may throw; `what` and the shape are part of the error.
absl::Status CallCudnn(absl::string_view what, const CudnnAttentionShape& shape,
                       absl::FunctionRef<cudnn_frontend::error_t()> call);

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUDNN_GRAPHS_H_
