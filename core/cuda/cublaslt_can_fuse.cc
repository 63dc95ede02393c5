// What cuBLASLt documents of its epilogues: the same with CUDA, without, and for the emulated GPU.
#include "core/cuda/cublaslt.h"

namespace strake {

bool CublasLt::CanFuse(const CudaProduct& p) {
  const bool gelu = p.epilogue != CudaEpilogue::kNone;
  // It takes bias and gelu_input in c's dtype.
  if ((p.bias != nullptr || gelu) && p.input != p.output) return false;
  if (!gelu) return true;
  // gelu_input's leading dimension is a multiple of 8 elements, and its accesses are of 128 bits.
  // Not f32, which is for accuracy: the epilogue's tanh may be an approximation.
  constexpr uintptr_t kAlignment = 16;
  return p.input == DType::kBf16 && p.n % 8 == 0 &&
         reinterpret_cast<uintptr_t>(p.gelu_input) % kAlignment == 0;
}

}  // namespace strake
