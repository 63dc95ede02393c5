#include "core/ops/matmul/few_rows_matmul_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::MaxAbs;
using testing::SameBits;
using testing::SetElement;
using testing::TestTensor;

struct Options {
  bool transpose_b, accumulate;
};
constexpr Options kOptions[] = {{false, false}, {false, true}, {true, false}, {true, true}};

template <typename T, typename C>
struct Operands {
  Operands(int64_t m, int64_t n, int64_t k, const Options& options)
      : m(m),
        n(n),
        k(k),
        options(options),
        a(DType::kF32, {m, k}),
        b(DTypeOf<T>::value, {k * n}),
        c(DTypeOf<C>::value, {m, n}) {}

  FewRowsProduct<T, C> Product() const {
    return {m,
            n,
            k,
            options.transpose_b,
            options.accumulate,
            a->template data<float>(),
            b->template data<T>(),
            c->template data<C>()};
  }
  double B(int64_t l, int64_t j) const {
    return GetElement(b, options.transpose_b ? j * k + l : l * n + j).real();
  }

  int64_t m, n, k;
  Options options;
  TestTensor a, b, c;
};

// Sums of integers below 2^24 are exact in f32; a bf16 c is rounded once.
template <typename T, typename C>
void ExpectExact(int64_t m, int64_t n, int64_t k, const Options& options) {
  SCOPED_TRACE(::testing::Message()
               << m << " x " << n << " x " << k << ", transposed " << options.transpose_b
               << ", accumulate " << options.accumulate);
  const Operands<T, C> x(m, n, k, options);
  FillSmallIntegers(x.a, 1);
  FillSmallIntegers(x.b, 2);
  FillConstant(x.c, NAN);
  if (options.accumulate) FillSmallIntegers(x.c, 3);
  const TestTensor expected(DTypeOf<C>::value, x.c->shape());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = options.accumulate ? GetElement(x.c, i * n + j).real() : 0;
      for (int64_t l = 0; l < k; ++l) sum += GetElement(x.a, i * k + l).real() * x.B(l, j);
      SetElement(expected, i * n + j, sum);
    }
  }
  EXPECT_GT(MaxAbs(x.a), 0);
  const int64_t cut = n / 3;
  FewRowsMatmul(x.Product(), cut, n);
  FewRowsMatmul(x.Product(), 0, cut);
  EXPECT_TRUE(SameBits(x.c, expected));
}

// Single elements; whole and ragged vectors, groups of vectors, depth; several blocks of columns.
TEST(FewRowsMatmulTest, ExactOnSmallIntegers) {
  for (int64_t m = 1; m <= kMaxFewRows; ++m) {
    for (const Options& options : kOptions) {
      for (const auto& [n, k] : {std::pair{1, 1}, {1, 200}, {7, 5}, {33, 8}, {130, 65}, {67, 16}}) {
        ExpectExact<float, float>(m, n, k, options);
        ExpectExact<Bf16, float>(m, n, k, options);
        ExpectExact<Bf16, Bf16>(m, n, k, options);
      }
      ExpectExact<float, float>(m, 4500, 9, options);
    }
  }
}

// Only the columns of the range are written.
TEST(FewRowsMatmulTest, KeepsToItsRange) {
  for (const Options& options : kOptions) {
    const Operands<float, float> x(3, 50, 20, options);
    FillSmallIntegers(x.a, 1);
    FillSmallIntegers(x.b, 2);
    FillConstant(x.c, 0.5);
    FewRowsMatmul(x.Product(), 17, 41);
    int changed = 0;
    for (int64_t i = 0; i < 3 * 50; ++i) {
      const bool in_range = 17 <= i % 50 && i % 50 < 41, kept = GetElement(x.c, i).real() == 0.5;
      EXPECT_TRUE(in_range || kept) << i;
      changed += !kept;
    }
    EXPECT_GT(changed, 50);
  }
}

template <typename T, typename C>
void ExpectBitsOfRowsAlone(int64_t n, int64_t k, const Options& options) {
  const Operands<T, C> all(kMaxFewRows, n, k, options);
  FillNormal(all.a, 1);
  FillNormal(all.b, 2);
  const auto fill = [&](const Tensor& c) { FillConstant(c, options.accumulate ? 0.3 : NAN); };
  for (int64_t m = 1; m <= kMaxFewRows; ++m) {
    fill(all.c);
    FewRowsProduct<T, C> product = all.Product();
    product.m = m;
    FewRowsMatmul(product, 0, n);
    for (int64_t row = 0; row < m; ++row) {
      const TestTensor alone(DTypeOf<C>::value, {1, n});
      fill(alone);
      product.m = 1;
      product.a = all.a->template data<float>() + row * k;
      product.c = alone->template data<C>();
      FewRowsMatmul(product, 0, n / 2);
      FewRowsMatmul(product, n / 2, n);
      EXPECT_GT(MaxAbs(alone), 0);
      EXPECT_TRUE(SameBits(alone, all.c->Rows(row, row + 1)))
          << "row " << row << " of " << m << ", " << n << " x " << k << ", transposed "
          << options.transpose_b;
    }
  }
}

TEST(FewRowsMatmulTest, ARowAmongOthersHasTheBitsOfARowAlone) {
  for (const Options& options : kOptions) {
    for (const auto& [n, k] : {std::pair{130, 77}, {2100, 40}, {37, 300}}) {
      ExpectBitsOfRowsAlone<float, float>(n, k, options);
      ExpectBitsOfRowsAlone<Bf16, float>(n, k, options);
      ExpectBitsOfRowsAlone<Bf16, Bf16>(n, k, options);
    }
  }
}

}  // namespace
}  // namespace strake::cpu::STRAKE_CPU_ISA
