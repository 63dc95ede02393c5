#include "core/testing/cublaslt_contract/contract.h"

#include <cublasLt.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/cuda/cuda_runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kM = 16, kN = 4, kK = 8;

CudaMemory Memory(size_t num_bytes) {
  absl::StatusOr<CudaMemory> memory = CudaMemory::Allocate(num_bytes);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return std::move(memory).value();
}

// A correct product in bf16, D = gelu(A^T B + bias), whose parts a test spoils.
struct Call {
  Call() {
    EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutInit(&a, CUDA_R_16BF, kK, kM, kK);
    cublasLtMatrixLayoutInit(&b, CUDA_R_16BF, kK, kN, kK);
    cublasLtMatrixLayoutInit(&c, CUDA_R_16BF, kM, kN, kM);
    d = c;
    Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
    Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data());
    Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data());
    Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{kM});
    cublasLtMatmulPreferenceInit(&preference);
    Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace.num_bytes()});
    Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  }
  ~Call() {
    if (handle != nullptr) cublasLtDestroy(handle);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  template <typename T>
  cublasStatus_t Set(cublasLtMatmulDescAttributes_t attribute, T value) {
    return cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof(value));
  }
  template <typename T>
  cublasStatus_t Prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    return cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value));
  }

  cublasStatus_t Ask() {
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, &operation, &a, &b, &c, &d, &preference, /*requestedAlgoCount=*/1, &result, &count);
    return count == 1 ? status : CUBLAS_STATUS_NOT_SUPPORTED;
  }
  cublasStatus_t Multiply() {
    return cublasLtMatmul(handle, &operation, &alpha, a_data, &a, b_memory.data(), &b, &beta,
                          d_memory.data(), &c, d_memory.data(), &d, &result.algo, workspace_data,
                          workspace_bytes, stream);
  }

  CudaMemory a_memory = Memory(2 * kM * kK), b_memory = Memory(2 * kK * kN),
             d_memory = Memory(2 * kM * kN), bias = Memory(2 * kM), aux = Memory(2 * kM * kN),
             workspace = Memory(4096);
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDescOpaque_t operation = {};
  cublasLtMatrixLayoutOpaque_t a = {}, b = {}, c = {}, d = {};
  cublasLtMatmulPreferenceOpaque_t preference = {};
  cublasLtMatmulHeuristicResult_t result = {};
  float alpha = 1, beta = 0;
  const void* a_data = a_memory.data();
  void* workspace_data = workspace.data();
  size_t workspace_bytes = workspace.num_bytes();
  cudaStream_t stream = nullptr;
};

void Fill(const CudaMemory& memory, float (*value)(int64_t)) {
  std::vector<Bf16> host(memory.num_bytes() / sizeof(Bf16));
  for (size_t i = 0; i < host.size(); ++i) host[i] = Bf16(value(static_cast<int64_t>(i)));
  EXPECT_TRUE(CopyToDevice(memory.data(), host.data(), memory.num_bytes(), nullptr).ok());
}

std::vector<Bf16> ToHost(const CudaMemory& memory) {
  std::vector<Bf16> host(memory.num_bytes() / sizeof(Bf16));
  EXPECT_TRUE(CopyToHost(host.data(), memory.data(), memory.num_bytes(), nullptr).ok());
  return host;
}

TEST(CublasLtContractTest, ComputesAsTheDescriptorsSay) {
  Call call;
  Fill(call.a_memory, [](int64_t i) { return static_cast<float>(i % 5 - 2); });
  Fill(call.b_memory, [](int64_t i) { return static_cast<float>(i % 3 - 1); });
  Fill(call.bias, [](int64_t i) { return static_cast<float>(i % 2); });
  ASSERT_EQ(call.Ask(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(call.Multiply(), CUBLAS_STATUS_SUCCESS);
  const std::vector<Bf16> u = ToHost(call.aux), d = ToHost(call.d_memory);
  double norm = 0;
  for (int64_t j = 0; j < int64_t{kN}; ++j) {
    for (int64_t i = 0; i < int64_t{kM}; ++i) {
      double expected = i % 2;
      for (int64_t l = 0; l < int64_t{kK}; ++l) {
        expected += ((i * int64_t{kK} + l) % 5 - 2) * ((j * int64_t{kK} + l) % 3 - 1);
      }
      const int64_t at = i + j * int64_t{kM};
      EXPECT_EQ(static_cast<float>(u[at]), expected);
      const double gelu =
          expected / 2 *
          (1 + std::tanh(std::sqrt(2 / M_PI) * (expected + 0.044715 * std::pow(expected, 3))));
      EXPECT_NEAR(static_cast<float>(d[at]), gelu, std::abs(gelu) * 0x1p-8);
      norm += std::abs(gelu);
    }
  }
  EXPECT_GT(norm, 10);
  EXPECT_THAT(TakeCublasLtViolations(), IsEmpty());
}

// Adds a violation if the heuristic or the product finds one.
void AskAndMultiply(Call& call) {
  if (call.Ask() == CUBLAS_STATUS_SUCCESS) (void)call.Multiply();
}

struct Misuse {
  const char* name;
  const char* violation;  // a part of it
  std::function<void(Call&)> make;
};

// A change of the descriptors, before the heuristic sees them.
Misuse InDescriptors(const char* name, const char* violation, std::function<void(Call&)> spoil) {
  return {name, violation, [spoil](Call& call) {
            spoil(call);
            AskAndMultiply(call);
          }};
}

// A change between the heuristic and the product.
Misuse InCall(const char* name, const char* violation, std::function<void(Call&)> spoil) {
  return {name, violation, [spoil](Call& call) {
            ASSERT_EQ(call.Ask(), CUBLAS_STATUS_SUCCESS);
            spoil(call);
            EXPECT_NE(call.Multiply(), CUBLAS_STATUS_SUCCESS);
          }};
}

char* Plus(const CudaMemory& memory, int num_bytes) {
  return static_cast<char*>(memory.data()) + num_bytes;
}

const Misuse kMisuses[] = {
    InDescriptors("SwappedLeadingDimension", "leading dimension 4 is below its 16 rows",
                  [](Call& x) { cublasLtMatrixLayoutInit(&x.d, CUDA_R_16BF, kM, kN, kN); }),
    InDescriptors("SwappedSizes", "A is [16, 8], not [16, 16]",
                  [](Call& x) { cublasLtMatrixLayoutInit(&x.a, CUDA_R_16BF, kM, kK, kM); }),
    InDescriptors("ForgottenTransposition", "A is [8, 16], not [16, 16]",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N); }),
    InDescriptors("EmptyMatrix", "a size of 0",
                  [](Call& x) {
                    cublasLtMatrixLayoutInit(&x.a, CUDA_R_16BF, 0, kM, kK);
                    cublasLtMatrixLayoutInit(&x.b, CUDA_R_16BF, 0, kN, kK);
                  }),
    InDescriptors("WrongDtypeOfB", "no kernels for dtypes",
                  [](Call& x) { cublasLtMatrixLayoutInit(&x.b, CUDA_R_16F, kK, kN, kK); }),
    InDescriptors("OtherDtypeOfC", "no kernels for dtypes",
                  [](Call& x) { cublasLtMatrixLayoutInit(&x.c, CUDA_R_32F, kM, kN, kM); }),
    InDescriptors("Tf32", "compute type 77",
                  [](Call& x) {
                    cublasLtMatmulDescInit(&x.operation, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F);
                    x.Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
                  }),
    InDescriptors(
        "WrongAuxDtype", "aux has dtype 0, and D 14",
        [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, int32_t{CUDA_R_32F}); }),
    InDescriptors("WrongBiasDtype", "bias has dtype 0, and D 14",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_32F}); }),
    InDescriptors(
        "MisalignedAux", "aux is not aligned to 16 bytes",
        [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, Plus(x.aux, 8)); }),
    InDescriptors("MisalignedBias", "bias is not aligned to 16 bytes",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, Plus(x.bias, 2)); }),
    InDescriptors("AuxLeadingDimensionTooSmall", "aux's leading dimension 8",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{8}); }),
    InDescriptors("AuxLeadingDimensionUneven", "aux's leading dimension 20",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{20}); }),
    InDescriptors("NoAux", "epilogue 164 without aux",
                  [](Call& x) {
                    x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(nullptr));
                  }),
    InDescriptors(
        "NoBias", "epilogue 164 without bias",
        [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(nullptr)); }),
    InDescriptors(
        "BiasWithoutItsEpilogue", "epilogue 160 with bias",
        [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX); }),
    InDescriptors("SumsRoundedToBf16", "parts of sums may be rounded",
                  [](Call& x) {
                    x.Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                             uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK});
                  }),
    InDescriptors(
        "AlignmentOfAByte", "less than an element's",
        [](Call& x) { x.Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t{1}); }),
    InDescriptors("AttributeOfWrongSize", "attribute 12 has 8 bytes, not 4",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int32_t{kM}); }),
    InDescriptors("UnknownAttribute", "unknown attribute 99",
                  [](Call& x) { x.Set(static_cast<cublasLtMatmulDescAttributes_t>(99), 0); }),
    InDescriptors("UnknownEpilogue", "attribute 7 cannot be 2",
                  [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{2}); }),
    InDescriptors(
        "AlignmentOfThree", "attribute 8 cannot be 3",
        [](Call& x) { x.Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t{3}); }),
    InDescriptors("OperationNotInitialized", "the operation is not initialized",
                  [](Call& x) { x.operation = {}; }),
    InDescriptors("LayoutNotInitialized", "a layout is not initialized", [](Call& x) { x.b = {}; }),
    InDescriptors("PreferenceNotInitialized", "the preference is not initialized",
                  [](Call& x) { x.preference = {}; }),
    InCall("WorkspaceTooSmall", "the workspace has 1023 bytes, and the algorithm needs 1024",
           [](Call& x) { x.workspace_bytes = 1023; }),
    InCall("WorkspaceMisaligned", "the workspace is not aligned to 256 bytes",
           [](Call& x) {
             x.workspace_data = Plus(x.workspace, 128);
             x.workspace_bytes -= 128;
           }),
    InCall("WorkspaceInHostMemory", "the workspace, 4096 bytes, is not within",
           [](Call& x) {
             alignas(256) static char memory[4096];
             x.workspace_data = memory;
           }),
    InCall("LessAlignedThanPromised", "A is aligned to 16 bytes, and the heuristic was told 256",
           [](Call& x) { x.a_data = Plus(x.a_memory, 16); }),
    InCall("LessAlignedAuxThanPromised", "aux is aligned to 16 bytes",
           [](Call& x) { x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, Plus(x.aux, 16)); }),
    InCall("MatrixOutOfBounds", "A, 256 bytes, is not within one allocation",
           [](Call& x) { x.a_data = x.b_memory.data(); }),
    InCall("AlgorithmOfAnotherProduct", "for another product",
           [](Call& x) {
             x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
             x.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(nullptr));
           }),
    InCall("AlgorithmOutOfTheBlue", "the heuristic gave no such algorithm",
           [](Call& x) { x.result.algo = {}; }),
    InCall("NoMatrix", "a matrix is null", [](Call& x) { x.a_data = nullptr; }),
    InCall("UnknownStream", "there is no such stream",
           [](Call& x) { x.stream = reinterpret_cast<cudaStream_t>(&x); }),
    InCall("HandleDestroyed", "no such handle",
           [](Call& x) { EXPECT_EQ(cublasLtDestroy(x.handle), CUBLAS_STATUS_SUCCESS); }),
};

TEST(CublasLtContractTest, FindsEachMisuse) {
  for (const Misuse& misuse : kMisuses) {
    SCOPED_TRACE(misuse.name);
    Call call;
    misuse.make(call);
    const std::vector<std::string> found = TakeCublasLtViolations();
    ASSERT_FALSE(found.empty());
    EXPECT_THAT(found.front(), HasSubstr(misuse.violation));
    if (NumCublasLtHandles() == 0) call.handle = nullptr;
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
  }
}

TEST(CublasLtContractTest, HandlesAreDestroyedOnce) {
  cublasLtHandle_t handle = nullptr;
  ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(NumCublasLtHandles(), 1);
  EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(NumCublasLtHandles(), 0);
  EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_THAT(TakeCublasLtViolations(), ElementsAre(HasSubstr("no such handle")));
}

}  // namespace
}  // namespace strake::testing
