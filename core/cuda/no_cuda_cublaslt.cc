// cublaslt.h in a build without CUDA.
#include "core/cuda/cublaslt.h"
#include "core/cuda/no_cuda.h"

namespace strake {

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Create(const ProductTuning* /*tuning*/) {
  return NoCuda();
}

}  // namespace strake
