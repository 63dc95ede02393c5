// A product as cuBLASLt's descriptors say it: checked, and computed.
#ifndef STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_PRODUCT_H_
#define STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_PRODUCT_H_

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/testing/cublaslt_contract/descriptors.h"

namespace strake::testing {

struct LtProduct {
  OperationFields operation;
  LayoutFields a, b, c, d;

  // D is [m, n], and op(A) [m, k].
  int64_t m() const { return static_cast<int64_t>(d.rows); }
  int64_t n() const { return static_cast<int64_t>(d.columns); }
  int64_t k() const {
    return static_cast<int64_t>(operation.transa == CUBLAS_OP_N ? a.columns : a.rows);
  }
};

// Returns an error for descriptors that are not initialized; else "".
std::string LoadProduct(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                        cublasLtMatrixLayout_t d, LtProduct* product);

// Returns which rule of the library the product breaks, or "". The addresses of the matrices are
// not part of it; those of bias and aux are.
std::string BrokenRule(const LtProduct& product);

// A number for everything but the addresses: what an algorithm is valid for.
uint64_t FingerprintOf(const LtProduct& product);

// Bytes of the packed [rows, columns] in a matrix's leading dimension, and of one element.
size_t NumBytes(const LayoutFields& layout);
size_t ElementSize(cudaDataType type);

bool HasBias(const OperationFields& operation);      // adds one
bool HasBiasGrad(const OperationFields& operation);  // BGRADA or BGRADB
bool HasAux(const OperationFields& operation);

struct LtOperands {
  const void *a = nullptr, *b = nullptr, *c = nullptr;
  void* d = nullptr;
  float alpha = 1, beta = 0;
};

// D = epilogue(alpha op(A) op(B) + beta C), in f32 and rounded once. Sums over k in `num_parts`
// parts, whose sums are then added in order.
void Compute(const LtProduct& product, const LtOperands& operands, int num_parts);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_PRODUCT_H_
