// Matrix products by cuBLASLt, in a header that does not include cuBLASLt's.
#ifndef STRAKE_CORE_CUDA_CUBLASLT_H_
#define STRAKE_CORE_CUDA_CUBLASLT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake {

struct ProductTuning;

// The epilogue, applied in f32 before the single rounding to c's dtype. u is the product, plus the
// bias if there is one.
enum class CudaEpilogue {
  kNone,      // c = u
  kGelu,      // gelu_input = u, c = gelu(u)
  kGeluGrad,  // c = u gelu'(gelu_input)
  kSumA,      // c = u, sums [M] = sum of op(a) over K
  kSumB,      // c = u, sums [N] = sum of op(b) over K
};

// Row-major: c [M, N] = or += op(a) op(b), op(a) [M, K], op(b) [K, N].
struct CudaProduct {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false;    // a is stored [K, M]
  bool transpose_b = false;    // b is stored [N, K]
  bool accumulate = false;     // c +=; excludes bias and GELU
  DType input = DType::kF32;   // of a, b, bias and gelu_input: f32 or bf16
  DType output = DType::kF32;  // of c: the input's dtype, or f32
  CudaEpilogue epilogue = CudaEpilogue::kNone;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;  // [N], added to each row; may be null. Not with kGeluGrad or sums
  void* gelu_input = nullptr;  // [M, N]; kGelu writes it, kGeluGrad reads it
  float* sums = nullptr;       // = for kSumA and kSumB, for c in f32; never +=
  void* c = nullptr;
};

// "c f32[4, 8] += a bf16[4, 2] b bf16[2, 8] transposed, bias, gelu": everything but the addresses.
std::string ToString(const CudaProduct& product);

// One rank's handle, used on its thread. Sums are f32, and f32 products are not rounded to TF32.
// The library's heuristic gives algorithms for the shapes, the alignments up to that of a tensor,
// and the GPU. The first of them is used, or the one that a tuning names: the same in every
// process, and never chosen from a timing of this run. Gives the same bits every time; another
// tuning gives others. GELU is in its tanh form.
class CublasLt {
 public:
  // Bytes of scratch of every product, in device memory.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // Creates a handle on the calling thread's device. `tuning` is for this GPU, or null, and must
  // outlive the handle; it is not used with another version of the library. Returns
  // ResourceExhausted if the device has no memory for the workspace.
  static absl::StatusOr<std::unique_ptr<CublasLt>> Create(const ProductTuning* tuning = nullptr);

  CublasLt() = default;
  virtual ~CublasLt() = default;
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Enqueues the product on `stream`. No size may be 0, and CanFuse() must hold. Returns Internal,
  // with the shapes, if the library does not support the product or fails.
  virtual absl::Status Multiply(CudaStream stream, const CudaProduct& product) = 0;

  // Returns how many algorithms the library offers for the product, at most 8. CanFuse() must hold.
  // For 0, bias and epilogue are left to other kernels: the library has no algorithm, and a line in
  // the log says so, once per shape; or the tuning says that they are faster. Asks the library once
  // per shape, so the answer does not change.
  virtual absl::StatusOr<int> NumAlgorithms(const CudaProduct& product) = 0;

  // Multiplies by one of those algorithms, for a measurement.
  virtual absl::Status MultiplyBy(int algorithm, CudaStream stream, const CudaProduct& product) = 0;

  // The version of the library, for ProductTuning.
  virtual int64_t version() const = 0;

  // Returns whether dtypes, sizes and alignment allow the product to have its bias and epilogue. A
  // product without them is always allowed.
  static bool CanFuse(const CudaProduct& product);
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_CUBLASLT_H_
