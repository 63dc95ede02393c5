// The error that every call returns in a build without CUDA.
#ifndef STRAKE_CORE_CUDA_NO_CUDA_H_
#define STRAKE_CORE_CUDA_NO_CUDA_H_

#include "absl/status/status.h"

namespace strake {

inline absl::Status NoCuda() {
  return absl::UnimplementedError("this build has no CUDA: build with --config=cuda");
}

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_NO_CUDA_H_
