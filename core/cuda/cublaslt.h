// Matrix products by cuBLASLt, in a header that does not include cuBLASLt's.
#ifndef STRAKE_CORE_CUDA_CUBLASLT_H_
#define STRAKE_CORE_CUDA_CUBLASLT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake {

// The epilogue, applied in f32 before the single rounding to c's dtype. u is the product, plus the
// bias if there is one.
enum class CudaEpilogue {
  kNone,      // c = u
  kGelu,      // gelu_input = u, c = gelu(u)
  kGeluGrad,  // c = u gelu'(gelu_input)
};

// Row-major: c [M, N] = or += op(a) op(b), op(a) [M, K], op(b) [K, N].
struct CudaProduct {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false;    // a is stored [K, M]
  bool transpose_b = false;    // b is stored [N, K]
  bool accumulate = false;     // c +=; excludes bias and epilogue
  DType input = DType::kF32;   // of a, b, bias and gelu_input: f32 or bf16
  DType output = DType::kF32;  // of c: the input's dtype, or f32
  CudaEpilogue epilogue = CudaEpilogue::kNone;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;  // [N], added to each row; may be null. Not with kGeluGrad
  void* gelu_input = nullptr;  // [M, N]; kGelu writes it, kGeluGrad reads it
  void* c = nullptr;
};

// One rank's handle, used on its thread. Sums are f32, and f32 products are not rounded to TF32.
// The library's heuristic chooses an algorithm from the shapes, the alignments and the GPU: the
// same in every process, and never from a timing. Gives the same bits every time. GELU is in its
// tanh form.
class CublasLt {
 public:
  // Bytes of scratch of every product, in device memory.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // Creates a handle on the calling thread's device. Returns ResourceExhausted if the device has no
  // memory for the workspace.
  static absl::StatusOr<std::unique_ptr<CublasLt>> Create();

  CublasLt() = default;
  virtual ~CublasLt() = default;
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Enqueues the product on `stream`. No size may be 0, and CanFuse() must hold. Returns Internal,
  // with the shapes, if the library does not support the product or fails.
  virtual absl::Status Multiply(CudaStream stream, const CudaProduct& product) = 0;

  // Returns whether dtypes, sizes and alignment allow the product to have its bias and epilogue. A
  // product without them is always allowed.
  static bool CanFuse(const CudaProduct& product);
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUBLASLT_H_
