#include "core/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/product_tuning.h"
#include "glog/logging.h"

// Returns from the function if the call fails. The error has the call, cuBLAS's name and text of
// the status, and the product.
#define STRAKE_RETURN_IF_CUBLAS_ERROR(product, call)                                         \
  do {                                                                                       \
    if (const cublasStatus_t strake_status = (call); strake_status != CUBLAS_STATUS_SUCCESS) \
      return Failed(strake_status, #call, product);                                          \
  } while (false)

namespace strake {
namespace {

// `product` may be null.
absl::Status Failed(cublasStatus_t status, absl::string_view call, const CudaProduct* product) {
  return absl::InternalError(
      absl::StrCat("[matmul] ", call.substr(0, call.find('(')), ": ",
                   cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ")",
                   product == nullptr ? "" : absl::StrCat(", in ", ToString(*product))));
}

cudaDataType TypeOf(DType dtype) { return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

// The library's A is our b, and its B our a: see Descriptors.
cublasLtEpilogue_t EpilogueOf(const CudaProduct& p) {
  const bool bias = p.bias != nullptr;
  switch (p.epilogue) {
    case CudaEpilogue::kGelu:
      return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case CudaEpilogue::kGeluGrad:
      return CUBLASLT_EPILOGUE_DGELU;
    case CudaEpilogue::kSumA:
      return CUBLASLT_EPILOGUE_BGRADB;
    case CudaEpilogue::kSumB:
      return CUBLASLT_EPILOGUE_BGRADA;
    default:
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// The alignment of every tensor, in bytes (kTensorAlignment of core/tensor). What chance aligns
// better is treated the same, so that a tensor's place chooses no algorithm.
constexpr uintptr_t kFullAlignment = 64;

// The largest power of two up to kFullAlignment that divides the address; 0 for null.
uint32_t AlignmentOf(const void* address) {
  const auto bits = reinterpret_cast<uintptr_t>(address);
  return static_cast<uint32_t>(std::min(bits & -bits, kFullAlignment));
}

// The product at addresses that are aligned like its own and not above kFullAlignment. The
// heuristic reads the alignment of bias, sums and gelu_input from their addresses, which it does
// not access.
CudaProduct AtTypicalAddresses(CudaProduct p) {
  const auto typical = [](const void* address) {
    const auto bits = reinterpret_cast<uintptr_t>(address);
    const bool better = bits != 0 && bits % (2 * kFullAlignment) == 0;
    return reinterpret_cast<void*>(better ? bits + kFullAlignment : bits);
  };
  p.bias = typical(p.bias);
  p.gelu_input = typical(p.gelu_input);
  p.sums = static_cast<float*>(typical(p.sums));
  return p;
}

bool IsFused(const CudaProduct& p) {
  return p.bias != nullptr || p.epilogue != CudaEpilogue::kNone;
}

bool IsFullyAligned(const CudaProduct& p) {
  const void* const addresses[] = {p.a, p.b, p.bias, p.gelu_input, p.sums, p.c};
  return std::all_of(std::begin(addresses), std::end(addresses), [](const void* address) {
    return address == nullptr || AlignmentOf(address) == kFullAlignment;
  });
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
  if (p.sums != nullptr) {
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.sums));
  }
  if (p.gelu_input != nullptr) {
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.gelu_input));
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.n));
  }
  return absl::OkStatus();
}

class CublasLtImpl : public CublasLt {
 public:
  // `tuning` may be null.
  CublasLtImpl(cublasLtHandle_t handle, CudaMemory workspace, const ProductTuning* tuning)
      : workspace_(std::move(workspace)), handle_(handle), tuning_(tuning) {}

  absl::Status Multiply(CudaStream stream, const CudaProduct& p) override {
    return Enqueue(std::nullopt, stream, p);
  }

  absl::Status MultiplyBy(int algorithm, CudaStream stream, const CudaProduct& p) override {
    return Enqueue(algorithm, stream, p);
  }

  absl::StatusOr<int> NumAlgorithms(const CudaProduct& p) override {
    STRAKE_ASSIGN_OR_RETURN(const Algorithms* algorithms, AlgorithmsOf(p));
    return static_cast<int>(algorithms->found.size());
  }

  int64_t version() const override { return static_cast<int64_t>(cublasLtGetVersion()); }

 private:
  // All properties of a product except its addresses, of which only the alignments count.
  using Key = std::array<int64_t, 15>;

  // The heuristic's answers, fastest first in its opinion; none if the product is not supported.
  struct Algorithms {
    std::vector<cublasLtMatmulAlgo_t> found;
    int chosen = 0;
  };

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
            AlignmentOf(p.sums),
            AlignmentOf(p.c)};
  }

  // Multiplies by the chosen algorithm if none is named.
  absl::Status Enqueue(std::optional<int> algorithm, CudaStream stream, const CudaProduct& p) {
    STRAKE_ASSIGN_OR_RETURN(const Algorithms* algorithms, AlgorithmsOf(p));
    if (algorithms->found.empty())
      return Failed(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", &p);
    Descriptors d;
    STRAKE_RETURN_IF_ERROR(Describe(p, &d));
    const float alpha = 1, beta = p.accumulate ? 1 : 0;
    STRAKE_RETURN_IF_CUBLAS_ERROR(
        &p,
        cublasLtMatmul(handle_.get(), &d.operation, &alpha, p.b, &d.a, p.a, &d.b, &beta, p.c, &d.c,
                       p.c, &d.c, &algorithms->found.at(algorithm.value_or(algorithms->chosen)),
                       workspace_.data(), workspace_.num_bytes(), stream));
    return absl::OkStatus();
  }

  // Valid until the next call.
  absl::StatusOr<const Algorithms*> AlgorithmsOf(const CudaProduct& p) {
    const Key key = KeyOf(p);
    const auto found = algorithms_.find(key);
    if (found != algorithms_.end()) return &found->second;
    Algorithms algorithms;
    STRAKE_RETURN_IF_ERROR(AskHeuristic(p, &algorithms.found));
    algorithms.chosen = TunedAlgorithm(p, static_cast<int>(algorithms.found.size()));
    if (algorithms.chosen == ProductTuning::kUnfused) algorithms.found.clear();
    // Training has some dozen products, so the cache only fills with prompts of ever new lengths.
    if (algorithms_.size() >= kMaxProducts) algorithms_.clear();
    return &algorithms_.try_emplace(key, std::move(algorithms)).first->second;
  }

  int TunedAlgorithm(const CudaProduct& p, int num_algorithms) const {
    if (tuning_ == nullptr || !IsFullyAligned(p)) return 0;
    const auto found = tuning_->algorithms.find(ToString(p));
    if (found == tuning_->algorithms.end() || found->second >= num_algorithms) return 0;
    return IsFused(p) ? found->second : std::max(found->second, 0);
  }

  absl::Status SetPreference(const CudaProduct& p, cublasLtMatmulPreferenceOpaque_t* preference) {
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
    };
    STRAKE_RETURN_IF_CUBLAS_ERROR(&p, cublasLtMatmulPreferenceInit(preference));
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
    return absl::OkStatus();
  }

  absl::Status AskHeuristic(const CudaProduct& p, std::vector<cublasLtMatmulAlgo_t>* algorithms) {
    Descriptors d;
    STRAKE_RETURN_IF_ERROR(Describe(AtTypicalAddresses(p), &d));
    cublasLtMatmulPreferenceOpaque_t preference;
    STRAKE_RETURN_IF_ERROR(SetPreference(p, &preference));
    cublasLtMatmulHeuristicResult_t results[kMaxAlgorithms];
    int num_results = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_.get(), &d.operation, &d.a, &d.b, &d.c, &d.c,
                                       &preference, kMaxAlgorithms, results, &num_results);
    // The library may call an epilogue that it does not have an invalid value.
    const bool refused = status == CUBLAS_STATUS_NOT_SUPPORTED ||
                         (IsFused(p) && status == CUBLAS_STATUS_INVALID_VALUE);
    if (status != CUBLAS_STATUS_SUCCESS && !refused)
      return Failed(status, "cublasLtMatmulAlgoGetHeuristic", &p);
    if (refused) num_results = 0;
    for (int i = 0; i < num_results; ++i) {
      if (results[i].state == CUBLAS_STATUS_SUCCESS &&
          results[i].workspaceSize <= workspace_.num_bytes()) {
        algorithms->push_back(results[i].algo);
      }
    }
    if (algorithms->empty()) {
      LOG(WARNING) << "[matmul] cuBLASLt's heuristic has no algorithm for " << ToString(p) << ": "
                   << cublasLtGetStatusName(num_results > 0 ? results[0].state : status) << ", "
                   << num_results << " results; bias, GELU and sums are left to Strake's kernels";
    }
    return absl::OkStatus();
  }

  static constexpr int kMaxAlgorithms = 8;
  static constexpr size_t kMaxProducts = 512;

  CudaMemory workspace_;
  std::unique_ptr<cublasLtContext, Destroy> handle_;
  const ProductTuning* const tuning_;
  absl::flat_hash_map<Key, Algorithms> algorithms_;
};

// Returns null, and says so, for a tuning of another version.
const ProductTuning* OfThisVersion(const ProductTuning* tuning) {
  if (tuning == nullptr || tuning->algorithms.empty()) return nullptr;
  const auto version = static_cast<int64_t>(cublasLtGetVersion());
  if (version == tuning->cublaslt) return tuning;
  LOG(WARNING) << "[matmul] algorithms are not tuned: this is cuBLASLt " << version
               << ", and the table of " << tuning->gpu << " is for " << tuning->cublaslt;
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Create(const ProductTuning* tuning) {
  STRAKE_ASSIGN_OR_RETURN(CudaMemory workspace, CudaMemory::Allocate(kWorkspaceBytes));
  cublasLtHandle_t handle = nullptr;
  STRAKE_RETURN_IF_CUBLAS_ERROR(nullptr, cublasLtCreate(&handle));
  return std::make_unique<CublasLtImpl>(handle, std::move(workspace), OfThisVersion(tuning));
}

}  // namespace strake
