#include "core/ops/matmul/matmul.h"

#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <tuple>
#include <vector>

#include "core/ops/activation/activation.h"
#include "core/ops/bias_add/bias_add.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

Shape Stored(int64_t rows, int64_t columns, bool transposed) {
  return transposed ? Shape{columns, rows} : Shape{rows, columns};
}

// a, b and c of one product, with integers small enough that f32 is exact.
struct Operands {
  Operands(DType dtype, int64_t m, int64_t n, int64_t k, MatmulOptions options)
      : options(options),
        m(m),
        n(n),
        k(k),
        a(dtype, Stored(m, k, options.transpose_a)),
        b(dtype, Stored(k, n, options.transpose_b)),
        c(dtype, {m, n}) {
    FillSmallIntegers(a, 1);
    FillSmallIntegers(b, 2);
    if (options.accumulate) FillSmallIntegers(c, 3);
  }
  void Run(const Context& ctx) { ASSERT_TRUE(Matmul(ctx, a, b, options, c).ok()); }

  MatmulOptions options;
  int64_t m, n, k;
  TestTensor a, b, c;
};

// The definition, with indices; c holds what the product is added to.
std::vector<float> Expected(const Operands& x) {
  std::vector<float> c(x.m * x.n);
  for (int64_t i = 0; i < x.m; ++i) {
    for (int64_t j = 0; j < x.n; ++j) {
      float sum = x.options.accumulate ? x.c->data<float>()[i * x.n + j] : 0;
      for (int64_t l = 0; l < x.k; ++l) {
        sum += x.a->data<float>()[x.options.transpose_a ? l * x.m + i : i * x.k + l] *
               x.b->data<float>()[x.options.transpose_b ? j * x.k + l : l * x.n + j];
      }
      c[i * x.n + j] = sum;
    }
  }
  return c;
}

std::vector<MatmulOptions> AllOptions() {
  std::vector<MatmulOptions> all;
  for (int bits = 0; bits < 8; ++bits) {
    all.push_back({(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0});
  }
  return all;
}

volatile sig_atomic_t num_signals = 0;

// A handler that interrupts the library's product would write its frame into the operands or the
// heap.
TEST(MatmulTest, SignalsChangeNoBit) {
  const TestContext ctx;
  Operands x(DType::kF32, 288, 512, 512, {.transpose_a = true});
  x.Run(ctx);
  const TestTensor expected(DType::kF32, x.c->shape());
  std::copy_n(x.c->data<float>(), x.c->num_elements(), expected->data<float>());
  struct sigaction action = {}, previous_action;
  action.sa_handler = [](int) { num_signals = num_signals + 1; };
  ASSERT_EQ(sigaction(SIGALRM, &action, &previous_action), 0);
  const itimerval every_millisecond = {{0, 1000}, {0, 1000}}, never = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every_millisecond, nullptr), 0);
  while (num_signals < 200) {
    x.Run(ctx);
    EXPECT_TRUE(SameBits(x.c, expected));
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &previous_action, nullptr);
}

// All partial sums stay below 270 * 64 + 8 < 2^24, so that any order of summation is exact. Covers
// a row that is cut for threads and caches, ragged tiles, and several blocks.
TEST(MatmulTest, ExactOnSmallIntegers) {
  for (const OpSet op_set : {OpSet::kAuto, OpSet::kReference}) {
    const TestContext ctx(op_set);
    for (const auto& [m, n, k] : {std::tuple{1, 1, 1},
                                  {1, 7, 5},
                                  {1, 300, 200},
                                  {1, 515, 33},
                                  {1, 9000, 9},
                                  {2, 515, 33},
                                  {3, 515, 130},
                                  {4, 33, 200},
                                  {8, 515, 130},
                                  {9, 515, 130},
                                  {7, 1, 5},
                                  {5, 3, 1},
                                  {1, 1, 200},
                                  {17, 31, 13},
                                  {129, 257, 65},
                                  {277, 523, 270},
                                  {600, 40, 33}}) {
      for (const MatmulOptions& options : AllOptions()) {
        Operands x(DType::kF32, m, n, k, options);
        const std::vector<float> expected = Expected(x);
        x.Run(ctx);
        ASSERT_GT(MaxAbs(x.a), 0);
        for (int64_t i = 0; i < m * n; ++i) {
          ASSERT_EQ(x.c->data<float>()[i], expected[i])
              << m << " x " << n << " x " << k << ", element " << i << ", transposed "
              << options.transpose_a << options.transpose_b << ", accumulate "
              << options.accumulate;
        }
      }
    }
  }
}

TEST(MatmulTest, EmptySizes) {
  for (const OpSet op_set : {OpSet::kAuto, OpSet::kReference}) {
    const TestContext ctx(op_set);
    for (const MatmulOptions& options : AllOptions()) {
      Operands(DType::kF32, 0, 3, 2, options).Run(ctx);
      Operands(DType::kF32, 3, 0, 2, options).Run(ctx);
      Operands sum_of_nothing(DType::kF32, 3, 2, 0, options);
      if (options.accumulate) FillConstant(sum_of_nothing.c, 5);
      sum_of_nothing.Run(ctx);
      for (int i = 0; i < 6; ++i) {
        EXPECT_EQ(sum_of_nothing.c->data<float>()[i], options.accumulate ? 5 : 0);
      }
    }
  }
}

TEST(MatmulTest, GradientsByComplexStep) {
  const TestContext ctx;
  for (const MatmulOptions& options : AllOptions()) {
    if (options.accumulate) continue;
    Operands x(DType::kC128, 3, 4, 5, options);
    TestTensor dc(DType::kC128, {3, 4}), da(DType::kC128, x.a->shape()),
        db(DType::kC128, x.b->shape());
    FillNormal(x.a, 1);
    FillNormal(x.b, 2);
    FillNormal(dc, 3);
    const bool ta = options.transpose_a, tb = options.transpose_b;
    // If A is stored transposed, its gradient is, too: dA^T = op(B) dC^T.
    ASSERT_TRUE(
        (ta ? Matmul(ctx, x.b, dc, {tb, true}, da) : Matmul(ctx, dc, x.b, {.transpose_b = !tb}, da))
            .ok());
    ASSERT_TRUE(
        (tb ? Matmul(ctx, dc, x.a, {true, ta}, db) : Matmul(ctx, x.a, dc, {.transpose_a = !ta}, db))
            .ok());
    const auto loss = [&] {
      x.Run(ctx);
      return WeightedSum(x.c, dc);
    };
    TestTensor da_step(DType::kF64, x.a->shape()), db_step(DType::kF64, x.b->shape());
    ComplexStepGradient(x.a, loss, da_step);
    ComplexStepGradient(x.b, loss, db_step);
    EXPECT_GT(MaxAbs(da_step), 0.1);
    EXPECT_LT(RelativeError(da, da_step), 1e-14);
    EXPECT_LT(RelativeError(db, db_step), 1e-14);
  }
}

// Each of k products and k sums rounds once at most. With random signs the errors add up as sqrt(k)
// of them, each at most u times the largest partial sum, which is about the largest result. The
// factor 4 is for the tail over all elements.
TEST(MatmulTest, F32FollowsF64) {
  for (const OpSet op_set : {OpSet::kAuto, OpSet::kReference}) {
    const TestContext ctx(op_set);
    for (const auto& [m, n, k] :
         {std::tuple{1, 96, 300}, {1, 10, 3072}, {5, 10, 3072}, {64, 48, 200}}) {
      for (const MatmulOptions& options : AllOptions()) {
        Operands f32(DType::kF32, m, n, k, options), f64(DType::kF64, m, n, k, options);
        for (Operands* x : {&f32, &f64}) {
          FillNormal(x->a, 1);
          FillNormal(x->b, 2);
          FillNormal(x->c, 3);
          x->Run(ctx);
        }
        // f64 starts from the unrounded numbers: 3 roundings of the inputs per term.
        EXPECT_LE(RelativeError(f32.c, f64.c), 4 * (std::sqrt(k) + 3) * 0x1p-24)
            << m << " x " << n << " x " << k;
      }
    }
  }
}

TEST(MatmulTest, TheSameBitsWithAnyNumberOfThreads) {
  for (const OpSet op_set : {OpSet::kAuto, OpSet::kReference}) {
    for (const auto& [m, n, k] : {std::tuple{1, 300, 77}, {3, 300, 77}, {130, 270, 277}}) {
      for (const MatmulOptions& options : AllOptions()) {
        // oneDNN's with AVX-512, which promises nothing for blocks of other sizes.
        if (m == 3 && options.transpose_a && op_set == OpSet::kAuto) continue;
        Operands one(DType::kF32, m, n, k, options), two(DType::kF32, m, n, k, options);
        for (Operands* x : {&one, &two}) {
          FillNormal(x->a, 1);
          FillNormal(x->b, 2);
        }
        one.Run(TestContext(op_set, 1));
        two.Run(TestContext(op_set, 2));
        EXPECT_GT(MaxAbs(one.c), 1);
        EXPECT_TRUE(SameBits(one.c, two.c)) << m << " x " << n << " x " << k;
      }
    }
  }
}

// Generation gives a sequence the same tokens whatever runs beside it.
TEST(MatmulTest, AFewRowsHaveTheBitsOfEachAlone) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool transposed : {false, true}) {
      constexpr int64_t kRows = 8, kColumns = 300, kDepth = 77;
      const TestContext ctx;
      Operands all(dtype, kRows, kColumns, kDepth, {.transpose_b = transposed});
      TestTensor bias(dtype, {kColumns}), u(dtype, {kRows, kColumns}), row_u(dtype, {1, kColumns}),
          row_c(dtype, {1, kColumns});
      for (const TestTensor* x : {&all.a, &all.b, &bias}) FillNormal(*x, 1);
      all.options.bias = bias;
      for (int64_t m = 2; m <= kRows; ++m) {
        all.options.gelu_input = u->Rows(0, m);
        ASSERT_TRUE(Matmul(ctx, all.a->Rows(0, m), all.b, all.options, all.c->Rows(0, m)).ok());
        for (int64_t i = 0; i < m; ++i) {
          MatmulOptions options = all.options;
          options.gelu_input = row_u;
          ASSERT_TRUE(Matmul(ctx, all.a->Rows(i, i + 1), all.b, options, row_c).ok());
          EXPECT_GT(MaxAbs(row_c), 0);
          EXPECT_TRUE(SameBits(row_u, u->Rows(i, i + 1))) << i << " of " << m;
          EXPECT_TRUE(SameBits(row_c, all.c->Rows(i, i + 1))) << i << " of " << m;
        }
      }
    }
  }
}

// Ranks are threads, each with its own team; and a thread may create several teams.
TEST(MatmulTest, ManyRanksAtOnce) {
  constexpr int kRanks = 4;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([rank] {
      const TestContext first(OpSet::kAuto, 1), second(OpSet::kAuto, 2);
      for (int repeat = 0; repeat < 5; ++repeat) {
        for (const TestContext* ctx : {&first, &second}) {
          Operands x(DType::kF32, 20 + rank, 40, 50, {});
          const std::vector<float> expected = Expected(x);
          x.Run(*ctx);
          for (size_t i = 0; i < expected.size(); ++i) {
            ASSERT_EQ(x.c->data<float>()[i], expected[i]) << "rank " << rank;
          }
        }
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(MatmulTest, CountsItsOperations) {
  TestContext test;
  OpProfile profile;
  test.context().set_profile(&profile);
  Operands(DType::kF32, 3, 4, 5, {}).Run(test);
  const OpProfile::Entry& entry = profile.entries().at({"matmul", Pass::kForward});
  EXPECT_EQ(entry.calls, 1);
  EXPECT_EQ(entry.cost.flops, 2 * 3 * 4 * 5);
  EXPECT_EQ(entry.cost.bytes, sizeof(float) * (3 * 5 + 5 * 4 + 3 * 4));
}

TEST(MatmulTest, ReadsAndWritesWhatItAddsTo) {
  TestContext test;
  OpProfile profile;
  test.context().set_profile(&profile);
  Operands(DType::kF32, 3, 4, 5, {.accumulate = true}).Run(test);
  EXPECT_EQ(profile.entries().at({"matmul", Pass::kForward}).cost.bytes,
            sizeof(float) * (3 * 5 + 5 * 4 + 2 * 3 * 4));
}

// The epilogue gives the bits of the ops that follow one another.
void ExpectEpiloguesAreOps(const Context& ctx, DType dtype, int64_t m, int64_t n, int64_t k) {
  SCOPED_TRACE(absl::StrCat(DTypeName(dtype), " ", m, " x ", n, " x ", k));
  const Shape shape = {m, n};
  TestTensor a(dtype, {m, k}), b(dtype, {k, n}), bias(dtype, {n});
  TestTensor product(dtype, shape), u(dtype, shape), g(dtype, shape), du(dtype, shape),
      fused(dtype, shape), fused_u(dtype, shape);
  FillNormal(a, 1);
  FillNormal(b, 2);
  FillNormal(bias, 3);
  ASSERT_TRUE(Matmul(ctx, a, b, {}, product).ok());
  // In bf16 the bias is added before the sum is rounded.
  ASSERT_TRUE(Matmul(ctx, a, b, {.bias = bias}, u).ok());
  if (dtype == DType::kF32) {
    ASSERT_TRUE(BiasAddForward(ctx, product, bias, fused_u).ok());
    EXPECT_TRUE(SameBits(fused_u, u));
  }
  ASSERT_TRUE(ActivationForward(ctx, ActivationKind::kGeluTanh, u, g).ok());
  ASSERT_TRUE(ActivationBackward(ctx, ActivationKind::kGeluTanh, product, u, du).ok());

  ASSERT_TRUE(Matmul(ctx, a, b, {.bias = bias, .gelu_input = fused_u}, fused).ok());
  EXPECT_TRUE(SameBits(fused_u, u));
  EXPECT_TRUE(SameBits(fused, g));
  ASSERT_TRUE(Matmul(ctx, a, b, {.gelu_grad_input = u}, fused).ok());
  EXPECT_TRUE(SameBits(fused, du));
}

TEST(MatmulTest, EpiloguesAreTheOpsBehindTheProduct) {
  const TestContext reference(OpSet::kReference);
  for (const int64_t m : {1, 7}) ExpectEpiloguesAreOps(reference, DType::kF32, m, 9, 12);
  const TestContext ctx(OpSet::kAuto);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t m : {1, 7}) ExpectEpiloguesAreOps(ctx, dtype, m, 9, 12);
    // Several blocks, the last of them narrow; and more depth than a block's.
    ExpectEpiloguesAreOps(ctx, dtype, 300, 297, 70);
    ExpectEpiloguesAreOps(ctx, dtype, 70, 80, 300);
  }
}

TEST(MatmulDeathTest, EpiloguesThatDoNotFitAreNamed) {
  const TestContext ctx;
  TestTensor a(DType::kF32, {2, 4}), b(DType::kF32, {4, 5}), c(DType::kF32, {2, 5}),
      bias(DType::kF32, {5}), wrong(DType::kF32, {4});
  EXPECT_DEATH((void)Matmul(ctx, a, b, {.bias = wrong}, c), "bias f32\\[4\\]");
  EXPECT_DEATH((void)Matmul(ctx, a, b, {.accumulate = true, .bias = bias}, c),
               "c f32\\[2, 5\\] accumulated, bias f32\\[5\\]");
  EXPECT_DEATH((void)Matmul(ctx, a, b, {.gelu_grad_input = a}, c), "gelu_grad_input f32\\[2, 4\\]");
  EXPECT_DEATH((void)Matmul(ctx, a, b, {.bias = bias, .gelu_grad_input = c}, c), "gelu_grad_input");
}

TEST(MatmulDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor a(DType::kF32, {2, 4}), b(DType::kF32, {3, 5}), c(DType::kF32, {2, 5}),
      f64(DType::kF64, {4, 5}), vector(DType::kF32, {4});
  EXPECT_DEATH((void)Matmul(ctx, a, b, {.transpose_b = true}, c),
               "\\[matmul\\] a f32\\[2, 4\\], b f32\\[3, 5\\] transposed, c f32\\[2, 5\\]");
  EXPECT_DEATH((void)Matmul(ctx, a, f64, {}, c), "b f64\\[4, 5\\]");
  EXPECT_DEATH((void)Matmul(ctx, a, vector, {}, c), "b f32\\[4\\]");
}

TEST(MatmulDeathTest, Bf16HasNoReference) {
  const TestContext ctx(OpSet::kReference);
  TestTensor a(DType::kBf16, {2, 4}), b(DType::kBf16, {4, 5}), c(DType::kBf16, {2, 5});
  EXPECT_DEATH((void)Matmul(ctx, a, b, {}, c), "\\[matmul\\] bf16 has no definition");
}

}  // namespace
}  // namespace strake
