// What the opaque structures of toolkit/cublasLt.h hold, and the state of the library.
#ifndef STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_DESCRIPTORS_H_
#define STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_DESCRIPTORS_H_

#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/testing/cublaslt_contract/contract.h"

namespace strake::testing {

// Each begins with a mark of its kind, which no other memory has.
struct LayoutFields {
  static constexpr uint64_t kMark = 0x57ac1e0000000001;
  uint64_t mark = kMark;
  cudaDataType type = CUDA_R_32F;
  uint64_t rows = 0, columns = 0;
  int64_t ld = 0;
};

struct OperationFields {
  static constexpr uint64_t kMark = 0x57ac1e0000000002;
  uint64_t mark = kMark;
  cublasComputeType_t compute_type = CUBLAS_COMPUTE_32F;
  cudaDataType scale_type = CUDA_R_32F;
  cublasOperation_t transa = CUBLAS_OP_N, transb = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;  // or its gradient
  void* aux = nullptr;
  int64_t aux_ld = 0;
  int32_t bias_type = -1, aux_type = -1;
};

struct PreferenceFields {
  static constexpr uint64_t kMark = 0x57ac1e0000000003;
  uint64_t mark = kMark;
  uint64_t max_workspace = 0;
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t min_alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

struct AlgorithmFields {
  static constexpr uint64_t kMark = 0x57ac1e0000000004;
  uint64_t mark = kMark;
  uint64_t product = 0;  // FingerprintOf() of what the heuristic was asked for
  uint64_t workspace = 0;
  uint32_t index = 0;
  uint16_t alignment[6] = {};  // of A, B, C, D, bias, aux
};

template <typename Fields, typename Opaque>
void Store(const Fields& fields, Opaque* opaque) {
  static_assert(sizeof(Fields) <= sizeof(Opaque));
  std::memcpy(static_cast<void*>(opaque), &fields, sizeof(fields));
}

// Returns false if the memory was not initialized as such a descriptor.
template <typename Fields, typename Opaque>
bool Load(const Opaque* opaque, Fields* fields) {
  if (opaque == nullptr) return false;
  std::memcpy(static_cast<void*>(fields), opaque, sizeof(*fields));
  return fields->mark == Fields::kMark;
}

// The state of the library, for all threads.
struct CublasLtState {
  std::mutex mutex;
  CublasLtBehaviour behaviour;
  std::set<cublasLtHandle_t> handles;
  std::vector<std::string> violations;

  static CublasLtState& Get();
  CublasLtBehaviour Behaviour();
  bool IsHandle(cublasLtHandle_t handle);
};

// Records the violation, and returns `status`.
cublasStatus_t Violation(std::string what, cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_DESCRIPTORS_H_
