#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/dtype.h"
#include "core/testing/cublaslt_contract/product.h"

namespace strake::testing {
namespace {

constexpr float kGeluSqrtTwoOverPi = 0.797884561f, kGeluCubic = 0.044715f;

float GeluTanh(float x) { return std::tanh(kGeluSqrtTwoOverPi * (x + kGeluCubic * x * x * x)); }

float Gelu(float x) { return 0.5f * x * (1 + GeluTanh(x)); }

float GeluSlope(float x) {
  const float tanh = GeluTanh(x);
  const float inner = kGeluSqrtTwoOverPi * (1 + 3 * kGeluCubic * x * x);
  return 0.5f * (1 + tanh) * (1 + x * (1 - tanh) * inner);
}

float At(const void* data, cudaDataType type, int64_t index) {
  return type == CUDA_R_16BF ? static_cast<float>(static_cast<const Bf16*>(data)[index])
                             : static_cast<const float*>(data)[index];
}

void Put(float value, void* data, cudaDataType type, int64_t index) {
  if (type == CUDA_R_16BF) {
    static_cast<Bf16*>(data)[index] = Bf16(value);
  } else {
    static_cast<float*>(data)[index] = value;
  }
}

// op(matrix) in f32, packed column by column: [rows, columns] of the result.
std::vector<float> Unpack(const void* data, const LayoutFields& layout, bool transposed,
                          int64_t rows, int64_t columns) {
  std::vector<float> unpacked(rows * columns);
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = transposed ? j + i * layout.ld : i + j * layout.ld;
      unpacked[j * rows + i] = At(data, layout.type, at);
    }
  }
  return unpacked;
}

// column += op(A) times rows [begin, end) of a column of op(B).
void AddTerms(const float* a, const float* b, int64_t m, int64_t begin, int64_t end,
              float* column) {
  for (int64_t l = begin; l < end; ++l) {
    const float factor = b[l];
    const float* const from = a + l * m;
    for (int64_t i = 0; i < m; ++i) column[i] += from[i] * factor;
  }
}

class Product {
 public:
  Product(const LtProduct& p, const LtOperands& x, int num_parts)
      : p_(p),
        x_(x),
        num_parts_(num_parts),
        a_(Unpack(x.a, p.a, p.operation.transa != CUBLAS_OP_N, p.m(), p.k())),
        b_(Unpack(x.b, p.b, p.operation.transb != CUBLAS_OP_N, p.k(), p.n())) {}

  void Run() {
    std::vector<float> column(p_.m()), part(p_.m());
    for (int64_t j = 0; j < p_.n(); ++j) {
      const float* const b = b_.data() + j * p_.k();
      std::fill(column.begin(), column.end(), 0.0f);
      AddTerms(a_.data(), b, p_.m(), 0, PartEnd(0), column.data());
      for (int i = 1; i < num_parts_; ++i) {
        std::fill(part.begin(), part.end(), 0.0f);
        AddTerms(a_.data(), b, p_.m(), PartEnd(i - 1), PartEnd(i), part.data());
        for (int64_t row = 0; row < p_.m(); ++row) column[row] += part[row];
      }
      for (int64_t i = 0; i < p_.m(); ++i) Finish(i, j, column[i]);
    }
    if (HasBiasGrad(p_.operation)) StoreBiasGrad();
  }

 private:
  int64_t PartEnd(int part) const { return p_.k() * (part + 1) / num_parts_; }

  void Finish(int64_t i, int64_t j, float sum) {
    const OperationFields& o = p_.operation;
    float u = x_.alpha * sum;
    if (x_.beta != 0) u += x_.beta * At(x_.c, p_.c.type, i + j * p_.c.ld);
    if (HasBias(o)) u += At(o.bias, p_.d.type, i);
    if (o.epilogue == CUBLASLT_EPILOGUE_DGELU) {
      u *= GeluSlope(At(o.aux, p_.d.type, i + j * o.aux_ld));
    } else if (HasAux(o)) {
      Put(u, o.aux, p_.d.type, i + j * o.aux_ld);
      u = Gelu(u);
    }
    Put(u, x_.d, p_.d.type, i + j * p_.d.ld);
  }

  void StoreBiasGrad() {
    const bool of_a = p_.operation.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    for (int64_t i = 0; i < (of_a ? p_.m() : p_.n()); ++i) {
      float sum = 0;
      for (int64_t l = 0; l < p_.k(); ++l) sum += of_a ? a_[l * p_.m() + i] : b_[i * p_.k() + l];
      Put(sum, p_.operation.bias, p_.d.type, i);
    }
  }

  const LtProduct& p_;
  const LtOperands& x_;
  const int num_parts_;
  const std::vector<float> a_, b_;  // op(A) [m, k], op(B) [k, n]
};

}  // namespace

void Compute(const LtProduct& product, const LtOperands& operands, int num_parts) {
  Product(product, operands, num_parts).Run();
}

}  // namespace strake::testing
