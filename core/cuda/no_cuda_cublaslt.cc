// cublaslt.h in a build without CUDA.
#include "core/cuda/cublaslt.h"
#include "core/cuda/no_cuda.h"

namespace strake {

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Create() { return NoCuda(); }
bool CublasLt::CanFuse(const CudaProduct&) { return false; }

}  // namespace strake
