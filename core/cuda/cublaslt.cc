#include "core/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"

// Returns from the function if the call fails. The error has the call, cuBLAS's name and text of
// the status, and the product.
#define STRAKE_RETURN_IF_CUBLAS_ERROR(product, call)                                         \
  do {                                                                                       \
    if (const cublasStatus_t strake_status = (call); strake_status != CUBLAS_STATUS_SUCCESS) \
      return Failed(strake_status, #call, product);                                          \
  } while (false)

namespace strake {
namespace {

// "c f32[4, 8] += a bf16[4, 2] b bf16[2, 8] transposed, bias, gelu".
std::string ToString(const CudaProduct& p) {
  constexpr const char* kEpilogues[] = {"", ", gelu", ", gelu's gradient"};
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

// `product` may be null.
absl::Status Failed(cublasStatus_t status, absl::string_view call, const CudaProduct* product) {
  return absl::InternalError(
      absl::StrCat("[matmul] ", call.substr(0, call.find('(')), ": ",
                   cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ")",
                   product == nullptr ? "" : absl::StrCat(", in ", ToString(*product))));
}

cudaDataType TypeOf(DType dtype) { return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

cublasLtEpilogue_t EpilogueOf(const CudaProduct& p) {
  const bool bias = p.bias != nullptr;
  switch (p.epilogue) {
    case CudaEpilogue::kGelu:
      return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case CudaEpilogue::kGeluGrad:
      return CUBLASLT_EPILOGUE_DGELU;
    default:
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// The largest power of two up to 256 that divides the address; kernels may be chosen by it.
uint32_t AlignmentOf(const void* address) {
  constexpr uintptr_t kLargest = 256;
  const auto bits = reinterpret_cast<uintptr_t>(address);
  return static_cast<uint32_t>(std::min(bits & -bits, kLargest));
}

// A product in the library's terms. The library is column-major, so it sees the transposes of our
// matrices: c^T [N, M] = op(b)^T op(a)^T. Its A is therefore our b, and its rows of D are our
// columns.
struct Descriptors {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, c;
};

cublasStatus_t SetLayout(cublasLtMatrixLayoutOpaque_t* layout, DType dtype, int64_t rows,
                         int64_t columns, bool transposed) {
  if (transposed) std::swap(rows, columns);
  return cublasLtMatrixLayoutInit(layout, TypeOf(dtype), columns, rows, /*ld=*/columns);
}

absl::Status Describe(const CudaProduct& p, Descriptors* d) {
  const auto transpose = [](bool yes) { return yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const auto set = [d](cublasLtMatmulDescAttributes_t attribute, auto value) {
    return cublasLtMatmulDescSetAttribute(&d->operation, attribute, &value, sizeof(value));
  };
  STRAKE_RETURN_IF_CUBLAS_ERROR(&p, SetLayout(&d->a, p.input, p.k, p.n, p.transpose_b));
  STRAKE_RETURN_IF_CUBLAS_ERROR(&p, SetLayout(&d->b, p.input, p.m, p.k, p.transpose_a));
  STRAKE_RETURN_IF_CUBLAS_ERROR(&p, SetLayout(&d->c, p.output, p.m, p.n, false));
  STRAKE_RETURN_IF_CUBLAS_ERROR(
      &p, cublasLtMatmulDescInit(&d->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_TRANSA, transpose(p.transpose_b)));
  STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_TRANSB, transpose(p.transpose_a)));
  STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_EPILOGUE, EpilogueOf(p)));
  if (p.bias != nullptr) {
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias));
  }
  if (p.epilogue != CudaEpilogue::kNone) {
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.gelu_input));
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.n));
  }
  return absl::OkStatus();
}

class CublasLtImpl : public CublasLt {
 public:
  CublasLtImpl(cublasLtHandle_t handle, CudaMemory workspace)
      : workspace_(std::move(workspace)), handle_(handle) {}

  absl::Status Multiply(CudaStream stream, const CudaProduct& p) override {
    Descriptors d;
    STRAKE_RETURN_IF_ERROR(Describe(p, &d));
    STRAKE_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t* algorithm, Algorithm(p, &d));
    const float alpha = 1, beta = p.accumulate ? 1 : 0;
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p,
        cublasLtMatmul(handle_.get(), &d.operation, &alpha, p.b, &d.a, p.a, &d.b, &beta, p.c, &d.c,
                       p.c, &d.c, algorithm, workspace_.data(), workspace_.num_bytes(), stream));
    return absl::OkStatus();
  }

 private:
  // All properties of a product except its addresses, of which only the alignments count.
  using Key = std::array<int64_t, 14>;

  struct Destroy {
    void operator()(cublasLtHandle_t handle) const { (void)cublasLtDestroy(handle); }
  };

  static Key KeyOf(const CudaProduct& p) {
    return {p.m,
            p.n,
            p.k,
            p.transpose_a,
            p.transpose_b,
            p.accumulate,
            static_cast<int64_t>(p.input),
            static_cast<int64_t>(p.output),
            static_cast<int64_t>(p.epilogue),
            AlignmentOf(p.a),
            AlignmentOf(p.b),
            AlignmentOf(p.bias),
            AlignmentOf(p.gelu_input),
            AlignmentOf(p.c)};
  }

  // Valid until the next call.
  absl::StatusOr<const cublasLtMatmulAlgo_t*> Algorithm(const CudaProduct& p, Descriptors* d) {
    const Key key = KeyOf(p);
    const auto found = algorithms_.find(key);
    if (found != algorithms_.end()) return &found->second;
    STRAKE_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t algorithm, AskHeuristic(p, d));
    // Training has some dozen products, so the cache only fills with prompts of ever new lengths.
    if (algorithms_.size() >= kMaxAlgorithms) algorithms_.clear();
    return &algorithms_.try_emplace(key, algorithm).first->second;
  }

  absl::StatusOr<cublasLtMatmulAlgo_t> AskHeuristic(const CudaProduct& p, Descriptors* d) {
    cublasLtMatmulPreferenceOpaque_t preference;
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value));
    };
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, cublasLtMatmulPreferenceInit(&preference));
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p, set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_.num_bytes()}));
    // Requires that parts of a sum over K are kept in the workspace, in f32, for a kernel that adds
    // them in order. They must not be kept in c, rounded to its dtype.
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                          uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}));
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p, set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, AlignmentOf(p.b)));
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p, set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, AlignmentOf(p.a)));
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p, set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, AlignmentOf(p.c)));
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p, set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, AlignmentOf(p.c)));
    cublasLtMatmulHeuristicResult_t result;
    int num_results = 0;
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p, cublasLtMatmulAlgoGetHeuristic(handle_.get(), &d->operation, &d->a, &d->b, &d->c, &d->c,
                                           &preference, /*requestedAlgoCount=*/1, &result,
                                           &num_results));
    if (num_results == 0)
      return Failed(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", &p);
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, result.state);
    return result.algo;
  }

  static constexpr size_t kMaxAlgorithms = 512;

  CudaMemory workspace_;
  std::unique_ptr<cublasLtContext, Destroy> handle_;
  absl::flat_hash_map<Key, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Create() {
  STRAKE_ASSIGN_OR_RETURN(CudaMemory workspace, CudaMemory::Allocate(kWorkspaceBytes));
  cublasLtHandle_t handle = nullptr;
  STRAKE_RETURN_IF_CUBLAS_ERROR(nullptr, cublasLtCreate(&handle));
  return std::make_unique<CublasLtImpl>(handle, std::move(workspace));
}

}  // namespace strake
