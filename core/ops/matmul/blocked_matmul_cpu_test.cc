#include "core/ops/matmul/blocked_matmul_cpu.h"

#include <algorithm>
#include <cmath>
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
  bool transpose_a, transpose_b, accumulate, bias;
};

std::vector<Options> AllOptions() {
  std::vector<Options> all;
  for (int bits = 0; bits < 16; ++bits) {
    all.push_back({(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0});
  }
  return all;
}

struct Sizes {
  int64_t m, n, k;
};

// A block of the largest size of one call.
struct Block {
  int64_t rows = kMatmulBlockRows, columns = kMatmulBlockColumns;
};

std::vector<float> Values(const Tensor& x) {
  std::vector<float> values(x.num_elements());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    values[i] = static_cast<float>(GetElement(x, i).real());
  }
  return values;
}

template <typename T, typename C>
struct Product {
  static constexpr DType kInput = DTypeOf<T>::value, kOutput = DTypeOf<C>::value;

  Product(const Sizes& sizes, const Options& options)
      : sizes(sizes),
        options(options),
        a(kInput, {sizes.m * sizes.k}),
        b(kInput, {sizes.k * sizes.n}),
        bias(kOutput, {sizes.n}),
        c(kOutput, {sizes.m, sizes.n}) {}

  // Computes on one thread, all ranges of the same columns before the next.
  void Run(const Block& block) {
    const auto [m, n, k] = sizes;
    const BlockedProduct<T, C> product = {m,
                                          n,
                                          k,
                                          options.transpose_a,
                                          options.transpose_b,
                                          options.accumulate,
                                          a->template data<T>(),
                                          b->template data<T>(),
                                          options.bias ? bias->template data<C>() : nullptr,
                                          c->template data<C>()};
    const TestTensor memory(DType::kF32, {BlockedMatmulScratch(kOutput)});
    MatmulScratch scratch = {memory->data<float>()};
    for (int64_t j = 0; j < n; j += block.columns) {
      for (int64_t i = 0; i < m; i += block.rows) {
        const MatmulRange range = {i, std::min(i + block.rows, m), j,
                                   std::min(j + block.columns, n)};
        BlockedMatmul(product, range, &scratch);
      }
    }
  }

  void FillWithSmallIntegers() const {
    FillSmallIntegers(a, 5);
    FillSmallIntegers(b, 6);
    FillSmallIntegers(bias, 7);
    if (options.accumulate) FillSmallIntegers(c, 8);
  }

  // y [m, n] = op(a) op(b) + bias + c.
  void RunDefinition(const Tensor& y) const {
    const auto [m, n, k] = sizes;
    const std::vector<float> left = Values(a), right = Values(b), row = Values(bias),
                             before = Values(c);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float sum = options.bias ? row[j] : 0;
        if (options.accumulate) sum += before[i * n + j];
        for (int64_t l = 0; l < k; ++l) {
          sum += left[options.transpose_a ? l * m + i : i * k + l] *
                 right[options.transpose_b ? j * k + l : l * n + j];
        }
        SetElement(y, i * n + j, sum);
      }
    }
  }

  Sizes sizes;
  Options options;
  TestTensor a, b, bias, c;
};

// Sums of integers below 2^24 are exact in f32; a bf16 c is rounded once.
template <typename T, typename C>
void ExpectExact(const Sizes& sizes, const Options& options) {
  Product<T, C> x(sizes, options);
  x.FillWithSmallIntegers();
  const TestTensor expected(Product<T, C>::kOutput, x.c->shape());
  x.RunDefinition(expected);
  EXPECT_GT(MaxAbs(expected), 0);
  for (const Block& block : {Block(), Block{kMatmulRowGrain, kMatmulColumnGrain}}) {
    FillConstant(x.c, NAN);
    x.FillWithSmallIntegers();
    x.Run(block);
    EXPECT_TRUE(SameBits(x.c, expected))
        << sizes.m << " x " << sizes.n << " x " << sizes.k << ", transposed " << options.transpose_a
        << options.transpose_b << ", accumulate " << options.accumulate << ", bias " << options.bias
        << ", blocks of " << block.rows << " x " << block.columns;
  }
}

// Single elements; ragged and whole tiles; several groups and blocks of rows, which keep their
// block of b; several blocks of columns and depth; rows of a that are a page apart.
constexpr Sizes kSizes[] = {{1, 1, 1},      {2, 1, 1},      {5, 3, 1},     {1, 33, 7},
                            {13, 1, 300},   {12, 32, 64},   {17, 31, 129}, {109, 65, 30},
                            {300, 40, 100}, {300, 20, 270}, {8, 257, 9},   {25, 300, 260},
                            {14, 5, 2048}};

TEST(BlockedMatmulTest, ExactOnSmallIntegers) {
  for (const Sizes& sizes : kSizes) {
    for (const Options& options : AllOptions()) {
      ExpectExact<float, float>(sizes, options);
      ExpectExact<Bf16, float>(sizes, options);
      ExpectExact<Bf16, Bf16>(sizes, options);
    }
  }
}

TEST(BlockedMatmulTest, TheSameBitsForAllBlocks) {
  for (const Options& options : AllOptions()) {
    if (options.accumulate) continue;
    Product<float, float> whole({300, 300, 300}, options), cut({300, 300, 300}, options);
    for (const auto* x : {&whole, &cut}) {
      FillNormal(x->a, 1);
      FillNormal(x->b, 2);
      FillNormal(x->bias, 3);
    }
    whole.Run({});
    EXPECT_GT(MaxAbs(whole.c), 0);
    for (const Block& block : {Block{24, 256}, Block{288, 64}, Block{7, 33}}) {
      cut.Run(block);
      EXPECT_TRUE(SameBits(cut.c, whole.c)) << block.rows << " x " << block.columns;
    }
  }
}

}  // namespace
}  // namespace strake::cpu::STRAKE_CPU_ISA
