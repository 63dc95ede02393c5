// Matrix products by cuBLASLt, without its headers.
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

// What follows the product, in f32 and before the one rounding to c's dtype. u is the product, plus
// the bias where there is one.
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
  bool accumulate = false;     // c +=, which goes with neither bias nor epilogue
  DType input = DType::kF32;   // of a, b, bias and gelu_input: f32 or bf16
  DType output = DType::kF32;  // of c: the input's, or f32
  CudaEpilogue epilogue = CudaEpilogue::kNone;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;  // [N], added to each row; may be null. Not with kGeluGrad
  void* gelu_input = nullptr;  // [M, N]; kGelu writes it, kGeluGrad reads it
  void* c = nullptr;
};

// One rank's handle, used on its thread. Sums are f32, and f32 products are not rounded to TF32. An
// algorithm is what the library's heuristic answers for the shapes, the alignments and the GPU: the
// same in every process, and never chosen by a timing. Gives the same bits every time. GELU is in
// its tanh form.
class CublasLt {
 public:
  // Scratch of every product, in device memory.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // On the calling thread's device. ResourceExhausted when it has no memory for the workspace.
  static absl::StatusOr<std::unique_ptr<CublasLt>> Create();

  CublasLt() = default;
  virtual ~CublasLt() = default;
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Enqueued on `stream`. No size is 0, and CanFuse() holds. Internal, with the shapes, where the
  // library knows no such product or fails.
  virtual absl::Status Multiply(CudaStream stream, const CudaProduct& product) = 0;

  // Whether the product may have its bias and epilogue, by dtypes, sizes and alignment; without
  // them it always may.
  static bool CanFuse(const CudaProduct& product);
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUBLASLT_H_
