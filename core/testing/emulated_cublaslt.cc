// core/cuda/cublaslt.h on the CPU, for the emulated GPU.
#include "core/cuda/cublaslt.h"

namespace strake {
namespace {

template <typename T>
float At(const void* matrix, int64_t index) {
  return static_cast<float>(static_cast<const T*>(matrix)[index]);
}

template <typename Input, typename Output>
void MultiplyAs(const CudaProduct& p) {
  Output* const c = static_cast<Output*>(p.c);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        sum += At<Input>(p.a, p.transpose_a ? l * p.m + i : i * p.k + l) *
               At<Input>(p.b, p.transpose_b ? j * p.k + l : l * p.n + j);
      }
      if (p.bias != nullptr) sum += At<Input>(p.bias, j);
      if (p.accumulate) sum += static_cast<float>(c[i * p.n + j]);
      c[i * p.n + j] = Output(sum);
    }
  }
}

class EmulatedCublasLt : public CublasLt {
 public:
  absl::Status Multiply(CudaStream, const CudaProduct& p) override {
    if (p.input == DType::kF32) {
      MultiplyAs<float, float>(p);
    } else if (p.output == DType::kF32) {
      MultiplyAs<Bf16, float>(p);
    } else {
      MultiplyAs<Bf16, Bf16>(p);
    }
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Create() {
  return std::make_unique<EmulatedCublasLt>();
}

}  // namespace strake
