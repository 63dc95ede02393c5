// cuBLASLt's heuristic and products.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/testing/cublaslt_contract/product.h"
#include "core/testing/emulated_gpu.h"
#include "core/testing/emulated_gpu_streams.h"

namespace strake::testing {
namespace {

// The largest power of two up to 256 that divides the address.
uint16_t AlignmentOf(const void* address) {
  constexpr uintptr_t kLargest = 256;
  const auto bits = reinterpret_cast<uintptr_t>(address);
  return static_cast<uint16_t>(bits == 0 ? kLargest : std::min(bits & -bits, kLargest));
}

std::string PreferenceRule(const PreferenceFields& preference, const LtProduct& p) {
  const LayoutFields* const matrices[] = {&p.a, &p.b, &p.c, &p.d};
  for (int i = 0; i < 4; ++i) {
    if (preference.min_alignment[i] < ElementSize(matrices[i]->type))
      return absl::StrCat("an alignment of ", preference.min_alignment[i],
                          " bytes is less than an element's");
  }
  // Parts of sums that are rounded to the dtype of D.
  const bool rounded =
      (preference.reduction_schemes &
       (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)) != 0;
  if (rounded && p.d.type != CUDA_R_32F) return "parts of sums may be rounded to bf16";
  return "";
}

AlgorithmFields Algorithm(const LtProduct& p, const PreferenceFields& preference, uint32_t index,
                          size_t workspace) {
  AlgorithmFields algorithm;
  algorithm.product = FingerprintOf(p);
  algorithm.workspace = workspace;
  algorithm.index = index;
  for (int i = 0; i < 4; ++i) {
    algorithm.alignment[i] = static_cast<uint16_t>(std::min(preference.min_alignment[i], 256u));
  }
  algorithm.alignment[4] = AlignmentOf(p.operation.bias);
  algorithm.alignment[5] = AlignmentOf(p.operation.aux);
  return algorithm;
}

cublasStatus_t Refuse(const CublasLtBehaviour& behaviour, cublasLtMatmulHeuristicResult_t* results,
                      int* count) {
  const auto refusal = static_cast<cublasStatus_t>(behaviour.refusal);
  *count = 0;
  if (!behaviour.refused_by_result) return refusal;
  std::memset(static_cast<void*>(results), 0xff, sizeof(*results));
  results->state = refusal;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t GetHeuristic(const LtProduct& p, const PreferenceFields& preference, int requested,
                            cublasLtMatmulHeuristicResult_t* results, int* count) {
  const CublasLtBehaviour behaviour = CublasLtState::Get().Behaviour();
  if (behaviour.refused_epilogues.count(p.operation.epilogue) > 0)
    return Refuse(behaviour, results, count);
  *count = 0;
  for (size_t i = 0; i < behaviour.workspaces.size() && *count < requested; ++i) {
    const size_t workspace = behaviour.workspaces[i];
    if (workspace > preference.max_workspace && !behaviour.ignores_max_workspace) continue;
    cublasLtMatmulHeuristicResult_t& result = results[(*count)++];
    result = {};
    Store(Algorithm(p, preference, static_cast<uint32_t>(i), workspace), &result.algo);
    result.workspaceSize = workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1;
  }
  return CUBLAS_STATUS_SUCCESS;
}

struct Call {
  LtProduct product = {};
  LtOperands operands = {};
  AlgorithmFields algorithm = {};
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  CudaStream stream = nullptr;
};

std::string AlgorithmRule(const Call& call) {
  const AlgorithmFields& algorithm = call.algorithm;
  if (algorithm.product != FingerprintOf(call.product))
    return "the heuristic gave the algorithm for another product";
  const OperationFields& operation = call.product.operation;
  const void* const addresses[] = {call.operands.a, call.operands.b, call.operands.c,
                                   call.operands.d, operation.bias,  operation.aux};
  constexpr const char* kNames[] = {"A", "B", "C", "D", "bias", "aux"};
  for (int i = 0; i < 6; ++i) {
    if (AlignmentOf(addresses[i]) < algorithm.alignment[i]) {
      return absl::StrCat(kNames[i], " is aligned to ", AlignmentOf(addresses[i]),
                          " bytes, and the heuristic was told ", algorithm.alignment[i]);
    }
  }
  return "";
}

std::string WorkspaceRule(const Call& call) {
  constexpr uint16_t kAlignment = 256;
  if (call.workspace_bytes < call.algorithm.workspace) {
    return absl::StrCat("the workspace has ", call.workspace_bytes,
                        " bytes, and the algorithm needs ", call.algorithm.workspace);
  }
  if (call.workspace == nullptr && call.workspace_bytes > 0) return "the workspace is null";
  if (AlignmentOf(call.workspace) < kAlignment) return "the workspace is not aligned to 256 bytes";
  return "";
}

std::string OperandsRule(const Call& call) {
  const LtOperands& x = call.operands;
  const LtProduct& p = call.product;
  if (x.a == nullptr || x.b == nullptr || x.c == nullptr || x.d == nullptr)
    return "a matrix is null";
  if (x.c == x.d && (p.c.ld != p.d.ld || p.c.type != p.d.type))
    return "C is D, with another layout";
  return "";
}

bool IsStream(const EmulatedGpu& gpu, CudaStream stream) {
  for (int device = 0; device < gpu.options().num_devices; ++device) {
    const std::vector<CUstream_st*> streams = gpu.Streams(device);
    if (std::find(streams.begin(), streams.end(), stream) != streams.end()) return true;
  }
  return stream == nullptr;
}

// Names what is not in device memory, and what does not fit there.
std::string MemoryRule(const Call& call) {
  const LtProduct& p = call.product;
  const OperationFields& o = p.operation;
  const bool row_vector = o.epilogue == CUBLASLT_EPILOGUE_BGRADB;
  const size_t bias_bytes = (row_vector ? p.n() : p.m()) * ElementSize(p.d.type);
  LayoutFields aux = p.d;
  aux.ld = o.aux_ld;
  const struct {
    const char* name;
    const void* data;
    size_t num_bytes;
  } used[] = {{"A", call.operands.a, NumBytes(p.a)},
              {"B", call.operands.b, NumBytes(p.b)},
              {"C", call.operands.c, NumBytes(p.c)},
              {"D", call.operands.d, NumBytes(p.d)},
              {"bias", o.bias, bias_bytes},
              {"aux", o.aux, NumBytes(aux)},
              {"the workspace", call.workspace, call.workspace_bytes}};
  EmulatedGpu& gpu = EmulatedGpu::Get();
  const EmulatedGpu::Lock lock = gpu.Acquire();
  for (const auto& each : used) {
    if (each.data != nullptr && !gpu.memory().IsOnDevice(each.data, each.num_bytes)) {
      return absl::StrCat(each.name, ", ", each.num_bytes,
                          " bytes, is not within one allocation of device memory");
    }
  }
  return IsStream(gpu, call.stream) ? "" : "there is no such stream";
}

std::string BrokenCallRule(const Call& call) {
  for (std::string (*rule)(const Call&) :
       {+[](const Call& each) { return BrokenRule(each.product); }, AlgorithmRule, WorkspaceRule,
        OperandsRule, MemoryRule}) {
    std::string broken = rule(call);
    if (!broken.empty()) return broken;
  }
  return "";
}

cublasStatus_t Enqueue(const Call& call) {
  const absl::Status enqueued = EnqueueOnEmulatedGpu(call.stream, "cublasLtMatmul", [call] {
    // Stands for what a real algorithm would leave there.
    if (call.algorithm.workspace > 0) std::memset(call.workspace, 0xff, call.algorithm.workspace);
    Compute(call.product, call.operands, static_cast<int>(call.algorithm.index) + 1);
    return absl::OkStatus();
  });
  return enqueued.ok() ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace
}  // namespace strake::testing

extern "C" {

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc, cublasLtMatrixLayout_t Adesc,
    cublasLtMatrixLayout_t Bdesc, cublasLtMatrixLayout_t Cdesc, cublasLtMatrixLayout_t Ddesc,
    cublasLtMatmulPreference_t preference, int requestedAlgoCount,
    cublasLtMatmulHeuristicResult_t heuristicResultsArray[], int* returnAlgoCount) {
  using namespace strake::testing;  // NOLINT(google-build-using-namespace)
  constexpr char kHere[] = "cublasLtMatmulAlgoGetHeuristic: ";
  if (!CublasLtState::Get().IsHandle(lightHandle))
    return Violation(absl::StrCat(kHere, "no such handle"), CUBLAS_STATUS_NOT_INITIALIZED);
  if (requestedAlgoCount <= 0 || heuristicResultsArray == nullptr || returnAlgoCount == nullptr)
    return Violation(absl::StrCat(kHere, "no place for results"));
  LtProduct product;
  PreferenceFields fields;
  std::string rule = LoadProduct(operationDesc, Adesc, Bdesc, Cdesc, Ddesc, &product);
  if (rule.empty() && !Load(preference, &fields)) rule = "the preference is not initialized";
  if (rule.empty()) rule = BrokenRule(product);
  if (rule.empty()) rule = PreferenceRule(fields, product);
  if (!rule.empty()) return Violation(kHere + rule);
  return GetHeuristic(product, fields, requestedAlgoCount, heuristicResultsArray, returnAlgoCount);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t computeDesc,
                              const void* alpha, const void* A, cublasLtMatrixLayout_t Adesc,
                              const void* B, cublasLtMatrixLayout_t Bdesc, const void* beta,
                              const void* C, cublasLtMatrixLayout_t Cdesc, void* D,
                              cublasLtMatrixLayout_t Ddesc, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspaceSizeInBytes, cudaStream_t stream) {
  using namespace strake::testing;  // NOLINT(google-build-using-namespace)
  constexpr char kHere[] = "cublasLtMatmul: ";
  if (!CublasLtState::Get().IsHandle(lightHandle))
    return Violation(absl::StrCat(kHere, "no such handle"), CUBLAS_STATUS_NOT_INITIALIZED);
  Call call = {.operands = {.a = A, .b = B, .c = C, .d = D},
               .workspace = workspace,
               .workspace_bytes = workspaceSizeInBytes,
               .stream = stream};
  std::string rule = LoadProduct(computeDesc, Adesc, Bdesc, Cdesc, Ddesc, &call.product);
  if (rule.empty() && !Load(algo, &call.algorithm)) rule = "the heuristic gave no such algorithm";
  if (rule.empty() && (alpha == nullptr || beta == nullptr)) rule = "alpha or beta is null";
  if (rule.empty()) rule = BrokenCallRule(call);
  if (!rule.empty()) return Violation(kHere + rule);
  std::memcpy(&call.operands.alpha, alpha, sizeof(float));
  std::memcpy(&call.operands.beta, beta, sizeof(float));
  const int status = CublasLtState::Get().Behaviour().matmul_status;
  return status != 0 ? static_cast<cublasStatus_t>(status) : Enqueue(call);
}

}  // extern "C"
