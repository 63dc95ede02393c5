// What is the same with CUDA, without it, and for the emulated GPU: the documented limits of
// cuBLASLt's epilogues, and a product's text.
#include "absl/strings/str_cat.h"
#include "core/cuda/cublaslt.h"

namespace strake {
namespace {

bool IsAligned(const void* address) {
  constexpr uintptr_t kAlignment = 16;  // accesses are 128-bit
  return reinterpret_cast<uintptr_t>(address) % kAlignment == 0;
}

}  // namespace

std::string ToString(const CudaProduct& p) {
  constexpr const char* kEpilogues[] = {"", ", gelu", ", gelu's gradient", ", sums of a",
                                        ", sums of b"};
  const auto matrix = [](const char* name, DType dtype, int64_t rows, int64_t columns,
                         bool transposed) {
    return absl::StrCat(name, DTypeName(dtype), "[", rows, ", ", columns, "]",
                        transposed ? " transposed" : "");
  };
  return absl::StrCat(matrix("c ", p.output, p.m, p.n, false), p.accumulate ? " +=" : " =",
                      matrix(" a ", p.input, p.m, p.k, p.transpose_a),
                      matrix(" b ", p.input, p.k, p.n, p.transpose_b),
                      p.bias != nullptr ? ", bias" : "", kEpilogues[static_cast<int>(p.epilogue)]);
}

bool CublasLt::CanFuse(const CudaProduct& p) {
  switch (p.epilogue) {
    case CudaEpilogue::kNone:
      // cuBLASLt takes the bias in c's dtype.
      return p.bias == nullptr || (p.input == p.output && IsAligned(p.bias));
    case CudaEpilogue::kSumA:
    case CudaEpilogue::kSumB:
      return p.output == DType::kF32 && IsAligned(p.sums);
    default:
      // gelu_input is in c's dtype, and its leading dimension must be a multiple of 8 elements.
      // Excludes f32, which is for accuracy: the epilogue's tanh may be an approximation.
      return p.input == DType::kBf16 && p.output == DType::kBf16 && p.n % 8 == 0 &&
             IsAligned(p.gelu_input) && IsAligned(p.bias);
  }
}

}  // namespace strake
