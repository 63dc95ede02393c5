// A stand-in for cuDNN on the emulated GPU, under cuDNN's real frontend.
//
// It is a shared library of the name that the product loads, libcudnn.so.9. It takes what
// cudnn_graph.h of cuDNN 9.19 declares and what its frontend asks for, checks every call, and
// computes the graphs that it was given: with their dims, strides and dtypes, in f32. Each tensor
// is rounded to its dtype. Whatever is wrong becomes a status, and the text of
// cudnnGetLastErrorString(). docs/cuda.md lists what it checks.
//
// A test whose first dependency is :emulated_gpu_with_cudnn has it from its start.
#ifndef STRAKE_CORE_TESTING_CUDNN_CONTRACT_CUDNN_CONTRACT_H_
#define STRAKE_CORE_TESTING_CUDNN_CONTRACT_CUDNN_CONTRACT_H_

#include "absl/status/status.h"
#include "core/testing/cudnn_contract/cudnn_options.h"

namespace strake::testing {

// Sets the options of the stand-in, but for its functions. Returns NotFound in a build without
// cuDNN, which has no stand-in either.
absl::Status SetCudnnOptions(const CudnnOptions& options);

// Lets the stand-in refuse something during its lifetime.
class ScopedCudnnOptions {
 public:
  explicit ScopedCudnnOptions(const CudnnOptions& options) { (void)SetCudnnOptions(options); }
  ~ScopedCudnnOptions() { (void)SetCudnnOptions({}); }
  ScopedCudnnOptions(const ScopedCudnnOptions&) = delete;
  ScopedCudnnOptions& operator=(const ScopedCudnnOptions&) = delete;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDNN_CONTRACT_CUDNN_CONTRACT_H_
