// core/cuda/cublaslt.h on the CPU, for the emulated GPU: computes in f32 and rounds once.
#include <cmath>

#include "core/cuda/cublaslt.h"
#include "core/testing/emulated_gpu.h"

namespace strake {
namespace {

constexpr float kGeluSqrtTwoOverPi = 0.797884561f, kGeluCubic = 0.044715f;

float GeluTanh(float x) { return std::tanh(kGeluSqrtTwoOverPi * (x + kGeluCubic * x * x * x)); }

float Gelu(float x) { return 0.5f * x * (1 + GeluTanh(x)); }

float GeluSlope(float x) {
  const float tanh = GeluTanh(x);
  const float inner = kGeluSqrtTwoOverPi * (1 + 3 * kGeluCubic * x * x);
  return 0.5f * (1 + tanh) * (1 + x * (1 - tanh) * inner);
}

template <typename T>
float At(const void* matrix, int64_t index) {
  return static_cast<float>(static_cast<const T*>(matrix)[index]);
}

template <typename T>
float Dot(const CudaProduct& p, int64_t i, int64_t j) {
  float sum = 0;
  for (int64_t l = 0; l < p.k; ++l) {
    sum += At<T>(p.a, p.transpose_a ? l * p.m + i : i * p.k + l) *
           At<T>(p.b, p.transpose_b ? j * p.k + l : l * p.n + j);
  }
  return sum;
}

template <typename Input, typename Output>
void MultiplyAs(const CudaProduct& p) {
  Output* const c = static_cast<Output*>(p.c);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      const int64_t at = i * p.n + j;
      float u = Dot<Input>(p, i, j);
      if (p.bias != nullptr) u += At<Input>(p.bias, j);
      if (p.accumulate) u += static_cast<float>(c[at]);
      if (p.epilogue == CudaEpilogue::kGelu) {
        static_cast<Input*>(p.gelu_input)[at] = Input(u);
        u = Gelu(u);
      } else if (p.epilogue == CudaEpilogue::kGeluGrad) {
        u *= GeluSlope(At<Input>(p.gelu_input, at));
      }
      c[at] = Output(u);
    }
  }
}

void MultiplyNow(const CudaProduct& p) {
  if (p.input == DType::kF32) return MultiplyAs<float, float>(p);
  if (p.output == DType::kF32) return MultiplyAs<Bf16, float>(p);
  MultiplyAs<Bf16, Bf16>(p);
}

// Returns false for products that the library, or CublasLt's contract, does not support.
bool IsKnown(const CudaProduct& p) {
  const bool gelu = p.epilogue != CudaEpilogue::kNone;
  const auto has_kernels = [](DType dtype) {
    return dtype == DType::kF32 || dtype == DType::kBf16;
  };
  return p.m > 0 && p.n > 0 && p.k > 0 && has_kernels(p.input) &&
         (p.output == p.input || p.output == DType::kF32) && CublasLt::CanFuse(p) &&
         gelu == (p.gelu_input != nullptr) && !(p.accumulate && (gelu || p.bias != nullptr)) &&
         !(p.epilogue == CudaEpilogue::kGeluGrad && p.bias != nullptr);
}

class EmulatedCublasLt : public CublasLt {
 public:
  absl::Status Multiply(CudaStream stream, const CudaProduct& p) override {
    if (!IsKnown(p))
      return absl::InternalError("[matmul] the emulated cuBLASLt has no such product");
    return testing::EnqueueOnEmulatedGpu(stream, "matmul", [p] {
      MultiplyNow(p);
      return absl::OkStatus();
    });
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Create() {
  return std::make_unique<EmulatedCublasLt>();
}

}  // namespace strake
