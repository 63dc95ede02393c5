// cuBLASLt's handles, statuses and descriptors.
#include "core/testing/cublaslt_contract/descriptors.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

struct cublasLtContext {};

namespace strake::testing {
namespace {

// An attribute: its size, its place in the fields, and which numbers it may have.
struct Attribute {
  int id;
  size_t size, offset;
  bool (*is_valid)(int64_t value);
};

bool IsAnything(int64_t) { return true; }
bool IsOperation(int64_t value) {
  return value == CUBLAS_OP_N || value == CUBLAS_OP_T || value == CUBLAS_OP_C;
}
bool IsEpilogue(int64_t value) {
  constexpr int kKnown[] = {CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_BIAS,
                            CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                            CUBLASLT_EPILOGUE_DGELU,    CUBLASLT_EPILOGUE_BGRADA,
                            CUBLASLT_EPILOGUE_BGRADB};
  return std::find(std::begin(kKnown), std::end(kKnown), value) != std::end(kKnown);
}
bool IsType(int64_t value) {
  return value == -1 || value == CUDA_R_32F || value == CUDA_R_64F || value == CUDA_R_16F ||
         value == CUDA_R_16BF;
}
bool IsSchemes(int64_t value) { return (value & ~int64_t{CUBLASLT_REDUCTION_SCHEME_MASK}) == 0; }
bool IsAlignment(int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

constexpr Attribute kOperationAttributes[] = {
    {CUBLASLT_MATMUL_DESC_TRANSA, 4, offsetof(OperationFields, transa), IsOperation},
    {CUBLASLT_MATMUL_DESC_TRANSB, 4, offsetof(OperationFields, transb), IsOperation},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, 4, offsetof(OperationFields, epilogue), IsEpilogue},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, 8, offsetof(OperationFields, bias), IsAnything},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, 4, offsetof(OperationFields, bias_type), IsType},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, 8, offsetof(OperationFields, aux), IsAnything},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 8, offsetof(OperationFields, aux_ld), IsAnything},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, 4, offsetof(OperationFields, aux_type), IsType},
};

constexpr size_t OfAlignment(int matrix) {
  return offsetof(PreferenceFields, min_alignment) + matrix * sizeof(uint32_t);
}

constexpr Attribute kPreferenceAttributes[] = {
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 8, offsetof(PreferenceFields, max_workspace),
     IsAnything},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 4, offsetof(PreferenceFields, reduction_schemes),
     IsSchemes},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 4, OfAlignment(0), IsAlignment},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 4, OfAlignment(1), IsAlignment},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 4, OfAlignment(2), IsAlignment},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 4, OfAlignment(3), IsAlignment},
};

template <typename Fields, typename Opaque, size_t kCount>
cublasStatus_t SetAttribute(const char* function, const Attribute (&attributes)[kCount], int id,
                            const void* value, size_t size, Opaque* opaque) {
  Fields fields;
  if (!Load(opaque, &fields)) return Violation(absl::StrCat(function, ": not initialized"));
  const auto found = std::find_if(std::begin(attributes), std::end(attributes),
                                  [id](const Attribute& each) { return each.id == id; });
  if (found == std::end(attributes))
    return Violation(absl::StrCat(function, ": unknown attribute ", id));
  if (value == nullptr || size != found->size) {
    return Violation(absl::StrCat(function, ": attribute ", id, " has ", found->size,
                                  " bytes, not ", value == nullptr ? 0 : size));
  }
  int32_t narrow = 0;
  int64_t number = 0;
  std::memcpy(size == 4 ? static_cast<void*>(&narrow) : &number, value, size);
  if (size == 4) number = narrow;
  if (!found->is_valid(number))
    return Violation(absl::StrCat(function, ": attribute ", id, " cannot be ", number));
  std::memcpy(reinterpret_cast<char*>(&fields) + found->offset, value, size);
  Store(fields, opaque);
  return CUBLAS_STATUS_SUCCESS;
}

struct StatusText {
  cublasStatus_t status;
  const char *name, *text;
};

constexpr StatusText kStatuses[] = {
    {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS", "success"},
    {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED", "not initialized"},
    {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED", "no memory"},
    {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE", "an invalid value"},
    {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH", "not on this architecture"},
    {CUBLAS_STATUS_MAPPING_ERROR, "CUBLAS_STATUS_MAPPING_ERROR", "memory cannot be mapped"},
    {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED", "the kernel failed"},
    {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR", "an internal error"},
    {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED", "not supported"},
    {CUBLAS_STATUS_LICENSE_ERROR, "CUBLAS_STATUS_LICENSE_ERROR", "no license"},
};

const StatusText* Find(cublasStatus_t status) {
  const auto found = std::find_if(std::begin(kStatuses), std::end(kStatuses),
                                  [=](const StatusText& each) { return each.status == status; });
  return found == std::end(kStatuses) ? nullptr : found;
}

}  // namespace

CublasLtState& CublasLtState::Get() {
  static auto* const state = new CublasLtState;
  return *state;
}

CublasLtBehaviour CublasLtState::Behaviour() {
  const std::lock_guard lock(mutex);
  return behaviour;
}

bool CublasLtState::IsHandle(cublasLtHandle_t handle) {
  const std::lock_guard lock(mutex);
  return handles.count(handle) > 0;
}

cublasStatus_t Violation(std::string what, cublasStatus_t status) {
  LOG(ERROR) << "cuBLASLt's contract is broken: " << what;
  CublasLtState& state = CublasLtState::Get();
  const std::lock_guard lock(state.mutex);
  state.violations.push_back(std::move(what));
  return status;
}

ScopedCublasLtBehaviour::ScopedCublasLtBehaviour(const CublasLtBehaviour& behaviour) {
  CublasLtState& state = CublasLtState::Get();
  const std::lock_guard lock(state.mutex);
  state.behaviour = behaviour;
}

ScopedCublasLtBehaviour::~ScopedCublasLtBehaviour() {
  CublasLtState& state = CublasLtState::Get();
  const std::lock_guard lock(state.mutex);
  state.behaviour = {};
}

std::vector<std::string> TakeCublasLtViolations() {
  CublasLtState& state = CublasLtState::Get();
  const std::lock_guard lock(state.mutex);
  return std::exchange(state.violations, {});
}

int NumCublasLtHandles() {
  CublasLtState& state = CublasLtState::Get();
  const std::lock_guard lock(state.mutex);
  return static_cast<int>(state.handles.size());
}

}  // namespace strake::testing

using strake::testing::CublasLtState;
using strake::testing::LayoutFields;
using strake::testing::OperationFields;
using strake::testing::PreferenceFields;
using strake::testing::Violation;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* lightHandle) {
  if (lightHandle == nullptr) return Violation("cublasLtCreate: no place for the handle");
  CublasLtState& state = CublasLtState::Get();
  const std::lock_guard lock(state.mutex);
  const auto status = static_cast<cublasStatus_t>(state.behaviour.create_status);
  if (status == CUBLAS_STATUS_SUCCESS) {
    *lightHandle = new cublasLtContext;
    state.handles.insert(*lightHandle);
  }
  return status;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lightHandle) {
  CublasLtState& state = CublasLtState::Get();
  {
    const std::lock_guard lock(state.mutex);
    if (state.handles.erase(lightHandle) > 0) {
      delete lightHandle;
      return CUBLAS_STATUS_SUCCESS;
    }
  }
  return Violation("cublasLtDestroy: no such handle", CUBLAS_STATUS_NOT_INITIALIZED);
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  const auto* const found = strake::testing::Find(status);
  return found == nullptr ? "<unknown>" : found->name;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  const auto* const found = strake::testing::Find(status);
  return found == nullptr ? "<unknown>" : found->text;
}

size_t cublasLtGetVersion() { return CublasLtState::Get().Behaviour().version; }

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t matLayout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  if (matLayout == nullptr || size != sizeof(*matLayout))
    return Violation("cublasLtMatrixLayoutInit: no layout of its size", CUBLAS_STATUS_ALLOC_FAILED);
  LayoutFields fields;
  fields.type = type;
  fields.rows = rows;
  fields.columns = cols;
  fields.ld = ld;
  strake::testing::Store(fields, matLayout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t matmulDesc, size_t size,
                                               cublasComputeType_t computeType,
                                               cudaDataType scaleType) {
  if (matmulDesc == nullptr || size != sizeof(*matmulDesc))
    return Violation("cublasLtMatmulDescInit: no operation of its size",
                     CUBLAS_STATUS_ALLOC_FAILED);
  OperationFields fields;
  fields.compute_type = computeType;
  fields.scale_type = scaleType;
  strake::testing::Store(fields, matmulDesc);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmulDesc,
                                              cublasLtMatmulDescAttributes_t attr, const void* buf,
                                              size_t sizeInBytes) {
  return strake::testing::SetAttribute<OperationFields>("cublasLtMatmulDescSetAttribute",
                                                        strake::testing::kOperationAttributes, attr,
                                                        buf, sizeInBytes, matmulDesc);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t pref, size_t size) {
  if (pref == nullptr || size != sizeof(*pref))
    return Violation("cublasLtMatmulPreferenceInit: no preference of its size",
                     CUBLAS_STATUS_ALLOC_FAILED);
  strake::testing::Store(PreferenceFields(), pref);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr,
                                                    const void* buf, size_t sizeInBytes) {
  return strake::testing::SetAttribute<PreferenceFields>("cublasLtMatmulPreferenceSetAttribute",
                                                         strake::testing::kPreferenceAttributes,
                                                         attr, buf, sizeInBytes, pref);
}

}  // extern "C"
