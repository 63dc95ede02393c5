#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/testing/cublaslt_contract/product.h"

namespace strake::testing {
namespace {

std::string MatrixRule(const char* name, const LayoutFields& matrix, int64_t rows,
                       int64_t columns) {
  constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
  if (matrix.rows != rows || matrix.columns != columns) {
    return absl::StrCat(name, " is [", matrix.rows, ", ", matrix.columns, "], not [", rows, ", ",
                        columns, "]");
  }
  if (rows == 0 || columns == 0 || matrix.rows > kMax || matrix.columns > kMax)
    return absl::StrCat(name, " has a size of 0, or above 2^31");
  if (matrix.ld < rows)
    return absl::StrCat(name, "'s leading dimension ", matrix.ld, " is below its ", rows, " rows");
  return "";
}

std::string SizesRule(const LtProduct& p) {
  const bool transa = p.operation.transa != CUBLAS_OP_N, transb = p.operation.transb != CUBLAS_OP_N;
  const int64_t m = p.m(), n = p.n(), k = p.k();
  for (std::string rule : {MatrixRule("A", p.a, transa ? k : m, transa ? m : k),
                           MatrixRule("B", p.b, transb ? n : k, transb ? k : n),
                           MatrixRule("C", p.c, m, n), MatrixRule("D", p.d, m, n)}) {
    if (!rule.empty()) return rule;
  }
  return "";
}

// The rows of the manual's table for f32 sums.
std::string TypesRule(const LtProduct& p) {
  if (p.operation.compute_type != CUBLAS_COMPUTE_32F || p.operation.scale_type != CUDA_R_32F)
    return absl::StrCat("compute type ", p.operation.compute_type, " with scale type ",
                        p.operation.scale_type, ": Strake's sums are f32, without TF32");
  const bool f32 = p.a.type == CUDA_R_32F, bf16 = p.a.type == CUDA_R_16BF;
  const bool output = p.d.type == CUDA_R_32F || (bf16 && p.d.type == CUDA_R_16BF);
  if ((!f32 && !bf16) || p.b.type != p.a.type || p.c.type != p.d.type || !output) {
    return absl::StrCat("no kernels for dtypes ", p.a.type, ", ", p.b.type, ", ", p.c.type, ", ",
                        p.d.type, " of A, B, C, D");
  }
  return "";
}

std::string VectorRule(const char* name, bool used, const void* address, int32_t type,
                       const LtProduct& p) {
  constexpr uintptr_t kAlignment = 16;
  if (!used) {
    return address == nullptr ? ""
                              : absl::StrCat("epilogue ", p.operation.epilogue, " with ", name);
  }
  if (address == nullptr) return absl::StrCat("epilogue ", p.operation.epilogue, " without ", name);
  if (reinterpret_cast<uintptr_t>(address) % kAlignment != 0)
    return absl::StrCat(name, " is not aligned to ", kAlignment, " bytes");
  if (type != -1 && type != p.d.type)
    return absl::StrCat(name, " has dtype ", type, ", and D ", p.d.type);
  return "";
}

std::string EpilogueRule(const LtProduct& p) {
  const OperationFields& o = p.operation;
  std::string rule = VectorRule("bias", HasBias(o) || HasBiasGrad(o), o.bias, o.bias_type, p);
  if (!rule.empty()) return rule;
  rule = VectorRule("aux", HasAux(o), o.aux, o.aux_type, p);
  if (!rule.empty() || !HasAux(o)) return rule;
  if (o.aux_ld % 8 != 0 || o.aux_ld < p.m()) {
    return absl::StrCat("aux's leading dimension ", o.aux_ld, " is no multiple of 8, or below ",
                        p.m(), " rows");
  }
  return "";
}

// FNV-1a.
void Mix(uint64_t value, uint64_t* hash) {
  for (int byte = 0; byte < 8; ++byte) {
    *hash = (*hash ^ (value >> (8 * byte) & 0xff)) * 0x100000001b3;
  }
}

}  // namespace

bool HasBias(const OperationFields& operation) {
  return operation.epilogue == CUBLASLT_EPILOGUE_BIAS ||
         operation.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

bool HasBiasGrad(const OperationFields& operation) {
  return operation.epilogue == CUBLASLT_EPILOGUE_BGRADA ||
         operation.epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

bool HasAux(const OperationFields& operation) {
  return operation.epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
         operation.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS ||
         operation.epilogue == CUBLASLT_EPILOGUE_DGELU;
}

size_t ElementSize(cudaDataType type) { return type == CUDA_R_16BF ? 2 : 4; }

size_t NumBytes(const LayoutFields& layout) {
  return ((layout.columns - 1) * layout.ld + layout.rows) * ElementSize(layout.type);
}

std::string LoadProduct(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                        cublasLtMatrixLayout_t d, LtProduct* product) {
  if (!Load(operation, &product->operation)) return "the operation is not initialized";
  const bool layouts =
      Load(a, &product->a) && Load(b, &product->b) && Load(c, &product->c) && Load(d, &product->d);
  return layouts ? "" : "a layout is not initialized";
}

std::string BrokenRule(const LtProduct& product) {
  for (std::string rule : {SizesRule(product), TypesRule(product), EpilogueRule(product)}) {
    if (!rule.empty()) return rule;
  }
  return "";
}

uint64_t FingerprintOf(const LtProduct& p) {
  uint64_t hash = 0xcbf29ce484222325;
  const OperationFields& o = p.operation;
  for (const int64_t value :
       {int64_t{o.compute_type}, int64_t{o.scale_type}, int64_t{o.transa}, int64_t{o.transb},
        int64_t{o.epilogue}, o.aux_ld, int64_t{o.bias_type}, int64_t{o.aux_type}}) {
    Mix(value, &hash);
  }
  for (const LayoutFields* layout : {&p.a, &p.b, &p.c, &p.d}) {
    Mix(layout->type, &hash);
    Mix(layout->rows, &hash);
    Mix(layout->columns, &hash);
    Mix(layout->ld, &hash);
  }
  return hash;
}

}  // namespace strake::testing
