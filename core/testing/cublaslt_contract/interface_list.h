// The list of what toolkit/cublasLt.h declares, for one source with that header and one with the
// toolkit's. Included after either.
#include <cstddef>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#define STRAKE_VALUE(x) \
  { #x, std::to_string(static_cast <long long>(x)) }
#define STRAKE_SIZE(x) \
  { "sizeof " #x, std::to_string(sizeof(x)) }
#define STRAKE_OFFSET(member) \
  { #member, std::to_string(offsetof(cublasLtMatmulHeuristicResult_t, member)) }
#define STRAKE_TYPE(function) \
  { #function, typeid(&function).name() }

static std::vector<std::pair<std::string, std::string>> CublasLtInterface() {
  return {STRAKE_VALUE(CUDA_R_32F),
          STRAKE_VALUE(CUDA_R_64F),
          STRAKE_VALUE(CUDA_R_16F),
          STRAKE_VALUE(CUDA_R_16BF),
          STRAKE_VALUE(CUBLAS_STATUS_SUCCESS),
          STRAKE_VALUE(CUBLAS_STATUS_NOT_INITIALIZED),
          STRAKE_VALUE(CUBLAS_STATUS_ALLOC_FAILED),
          STRAKE_VALUE(CUBLAS_STATUS_INVALID_VALUE),
          STRAKE_VALUE(CUBLAS_STATUS_ARCH_MISMATCH),
          STRAKE_VALUE(CUBLAS_STATUS_MAPPING_ERROR),
          STRAKE_VALUE(CUBLAS_STATUS_EXECUTION_FAILED),
          STRAKE_VALUE(CUBLAS_STATUS_INTERNAL_ERROR),
          STRAKE_VALUE(CUBLAS_STATUS_NOT_SUPPORTED),
          STRAKE_VALUE(CUBLAS_STATUS_LICENSE_ERROR),
          STRAKE_VALUE(CUBLAS_OP_N),
          STRAKE_VALUE(CUBLAS_OP_T),
          STRAKE_VALUE(CUBLAS_OP_C),
          STRAKE_VALUE(CUBLAS_COMPUTE_16F),
          STRAKE_VALUE(CUBLAS_COMPUTE_32F),
          STRAKE_VALUE(CUBLAS_COMPUTE_32F_FAST_TF32),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_DEFAULT),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_BIAS),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_GELU_AUX),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_GELU_AUX_BIAS),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_DGELU),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_BGRADA),
          STRAKE_VALUE(CUBLASLT_EPILOGUE_BGRADB),
          STRAKE_VALUE(CUBLASLT_REDUCTION_SCHEME_NONE),
          STRAKE_VALUE(CUBLASLT_REDUCTION_SCHEME_INPLACE),
          STRAKE_VALUE(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE),
          STRAKE_VALUE(CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE),
          STRAKE_VALUE(CUBLASLT_REDUCTION_SCHEME_MASK),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_TRANSA),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_TRANSB),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_EPILOGUE),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_BIAS_POINTER),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE),
          STRAKE_VALUE(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE),
          STRAKE_VALUE(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES),
          STRAKE_VALUE(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK),
          STRAKE_VALUE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES),
          STRAKE_VALUE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES),
          STRAKE_VALUE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES),
          STRAKE_VALUE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES),
          STRAKE_SIZE(cudaStream_t),
          STRAKE_SIZE(cublasLtHandle_t),
          STRAKE_SIZE(cublasLtMatrixLayoutOpaque_t),
          STRAKE_SIZE(cublasLtMatmulAlgo_t),
          STRAKE_SIZE(cublasLtMatmulDescOpaque_t),
          STRAKE_SIZE(cublasLtMatmulPreferenceOpaque_t),
          STRAKE_SIZE(cublasLtMatmulHeuristicResult_t),
          STRAKE_OFFSET(algo),
          STRAKE_OFFSET(workspaceSize),
          STRAKE_OFFSET(state),
          STRAKE_OFFSET(wavesCount),
          STRAKE_TYPE(cublasLtCreate),
          STRAKE_TYPE(cublasLtDestroy),
          STRAKE_TYPE(cublasLtGetStatusName),
          STRAKE_TYPE(cublasLtGetStatusString),
          STRAKE_TYPE(cublasLtGetVersion),
          STRAKE_TYPE(cublasLtMatrixLayoutInit_internal),
          STRAKE_TYPE(cublasLtMatrixLayoutInit),
          STRAKE_TYPE(cublasLtMatmulDescInit_internal),
          STRAKE_TYPE(cublasLtMatmulDescInit),
          STRAKE_TYPE(cublasLtMatmulDescSetAttribute),
          STRAKE_TYPE(cublasLtMatmulPreferenceInit_internal),
          STRAKE_TYPE(cublasLtMatmulPreferenceInit),
          STRAKE_TYPE(cublasLtMatmulPreferenceSetAttribute),
          STRAKE_TYPE(cublasLtMatmulAlgoGetHeuristic),
          STRAKE_TYPE(cublasLtMatmul)};
}
