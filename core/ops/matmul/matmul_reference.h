// Reference implementation of the matrix product. See core/ops/matmul/matmul.h.
#ifndef STRAKE_CORE_OPS_MATMUL_MATMUL_REFERENCE_H_
#define STRAKE_CORE_OPS_MATMUL_MATMUL_REFERENCE_H_

#include <algorithm>
#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

// Cuts the product into tiles of fixed size, each the work of one thread. How Eigen blocks the sums
// over K depends on the size of its operands, so tiles that depended on the number of threads would
// change bits.
struct MatmulTiles {
  static constexpr int64_t kRows = 128, kColumns = 256;

  MatmulTiles(int64_t m, int64_t n)
      : across((n + kColumns - 1) / kColumns), count((m + kRows - 1) / kRows * across) {}

  int64_t across;
  int64_t count;
};

// c [m, n] =, or += with `accumulate`, op(a) [m, k] op(b) [k, n].
template <typename Scalar>
struct MatmulArgs {
  const Scalar *a, *b;
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
  Scalar* c;
};

// Computes tile `tile` of c.
template <typename Scalar>
void Matmul(const MatmulArgs<Scalar>& args, int64_t tile) {
  const int64_t m = args.m, n = args.n, k = args.k;
  using Stride = Eigen::OuterStride<>;
  const int64_t across = MatmulTiles(m, n).across;
  const int64_t i = tile / across * MatmulTiles::kRows, j = tile % across * MatmulTiles::kColumns;
  const int64_t rows = std::min(MatmulTiles::kRows, m - i);
  const int64_t columns = std::min(MatmulTiles::kColumns, n - j);

  Matrix<Scalar> out(args.c + i * n + j, rows, columns, Stride(n));
  if (!args.accumulate) out.setZero();
  const auto add = [&](const auto& left, const auto& right) { out.noalias() += left * right; };
  const auto add_left = [&](const auto& left) {
    if (args.transpose_b) {
      add(left, ConstMatrix<Scalar>(args.b + j * k, columns, k, Stride(k)).transpose());
    } else {
      add(left, ConstMatrix<Scalar>(args.b + j, k, columns, Stride(n)));
    }
  };
  if (args.transpose_a) {
    add_left(ConstMatrix<Scalar>(args.a + i, k, rows, Stride(m)).transpose());
  } else {
    add_left(ConstMatrix<Scalar>(args.a + i * k, rows, k, Stride(k)));
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_MATMUL_MATMUL_REFERENCE_H_
