// The documented limits of cuBLASLt's epilogues. They are the same with CUDA, without it, and for
// the emulated GPU.
#include "core/cuda/cublaslt.h"

namespace strake {

bool CublasLt::CanFuse(const CudaProduct& p) {
  const bool gelu = p.epilogue != CudaEpilogue::kNone;
  // cuBLASLt takes bias and gelu_input in c's dtype.
  if ((p.bias != nullptr || gelu) && p.input != p.output) return false;
  if (!gelu) return true;
  // gelu_input's leading dimension must be a multiple of 8 elements, and its accesses are 128-bit.
  // Excludes f32, which is for accuracy: the epilogue's tanh may be an approximation.
  constexpr uintptr_t kAlignment = 16;
  return p.input == DType::kBf16 && p.n % 8 == 0 &&
         reinterpret_cast<uintptr_t>(p.gelu_input) % kAlignment == 0;
}

}  // namespace strake
