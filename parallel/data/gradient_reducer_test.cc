#include "parallel/data/gradient_reducer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/threads/threads_communicator.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using ::testing::AllOf;
using testing::GetElement;
using ::testing::HasSubstr;
using testing::SetElement;
using testing::TestContext;

using Kind = CollectiveKind;

// One parameter each; seven in three buckets, in two ways; all in one.
constexpr int64_t kBucketBytes[] = {1, 4 * 200, 4 * 300, 1 << 20};

// Offsets of the parameters without padding, in an index space of kSize elements.
constexpr int64_t kOffsets[] = {0, 64, 128, 384, 448, 512, 704};
constexpr int64_t kSize = 768;

// The positions of parameters at which the arena's parts begin. A part that begins where the next
// one does is empty, and so is one that begins at 7.
using Parts = std::vector<int>;

// Starts the parts that begin with the next parameter.
void StartParts(ParameterArena* arena, const Parts& parts) {
  const int i = static_cast<int>(arena->records().size());
  for (size_t p = 1; p < parts.size(); ++p) {
    if (parts[p] == i) arena->StartPart();
  }
}

// Ragged, with gaps behind them.
void AddParameters(ParameterArena* arena, const Parts& parts = {0}) {
  const auto add = [&](const char* name, Shape shape, bool weight_decay) {
    StartParts(arena, parts);
    return arena->Add({{name, shape.back()}}, shape, weight_decay);
  };
  add("embedding", {5, 7}, true)->grad_is_overwritten = true;
  add("positions", {3}, true);
  add("weight", {70, 3}, true)->grad_is_overwritten = true;
  add("bias", {7}, false);
  add("single", {1, 1}, true);
  add("norm.weight", {130}, false);
  add("norm.bias", {64}, false);
  StartParts(arena, parts);
}

std::unique_ptr<ParameterArena> MakeArena(DType dtype, int dp,
                                          const GradientReducerOptions& options,
                                          const Parts& parts = {0}) {
  auto arena = std::make_unique<ParameterArena>();
  AddParameters(arena.get(), parts);
  PadBuckets(arena.get(), dtype, dp, options);
  EXPECT_TRUE(arena->Allocate(dtype, /*with_gradients=*/options.zero < 2).ok());
  return arena;
}

// The term that a backward pass adds to element i of the index space without padding; `part` 1 is a
// tied head's.
using Term = std::function<double(int rank, int micro_batch, int part, int64_t i)>;

// Different everywhere, and so small that every sum is exact.
double SmallInteger(int rank, int micro_batch, int part, int64_t i) {
  return static_cast<double>((i * 7 + rank * 31 + micro_batch * 11 + part * 5) % 97 - 40);
}

// Sums of these depend on their order.
double NormalNumber(int rank, int micro_batch, int part, int64_t i) {
  return Philox(7, RandomUse::kTesting, (rank * 8 + micro_batch) * 2 + part).Normal(i);
}

void AddTerms(ParameterRecord& p, int64_t offset, const Term& term, int rank, int micro_batch,
              int part) {
  const bool adds = !std::exchange(p.parameter.grad_is_cleared, false);
  for (int64_t i = 0; i < p.num_elements(); ++i) {
    const auto before = adds ? GetElement(p.parameter.grad, i) : 0;
    SetElement(p.parameter.grad, i, before + term(rank, micro_batch, part, offset + i));
  }
}

// Like a model with a tied head: the first parameter's gradient is written first and last, and the
// norm writes its weight's gradient before it announces its bias's. The pass of the arena's part
// `arena_part`, in which the norm is as a whole.
void Backward(const Context& ctx, GradientReducer& reducer, ParameterArena& arena, const Term& term,
              int rank, int micro_batch, int arena_part = 0) {
  std::deque<ParameterRecord>& p = arena.records();
  const int begin = arena.parts()[arena_part];
  const bool is_last_part = arena_part + 1 == static_cast<int>(arena.parts().size());
  const int end = is_last_part ? 7 : arena.parts()[arena_part + 1];
  const auto add = [&](int i, int part) {
    AddTerms(p[i], kOffsets[i], term, rank, micro_batch, part);
  };
  if (begin == 0 && end > 0) add(0, 1);
  for (int i = end - 1; i >= begin; --i) {
    if (i == 6) add(5, 0);
    if (i != 5) add(i, 0);
    reducer.OnGradReady(ctx, p[i].parameter);
  }
}

struct Layout {
  int dp = 1;
  int num_micro_batches = 1;
  GradientReducerOptions options = {};
  DType dtype = DType::kF32;
  Parts parts = {0};

  std::string ToString() const {
    return absl::StrCat(
        "dp ", dp, ", zero ", options.zero, ", bucket_bytes ", options.bucket_bytes, ", overlap ",
        options.overlap, options.reduce_in_bf16 ? ", in bf16, micro-batches " : ", micro-batches ",
        num_micro_batches, ", ", DTypeName(dtype), ", parts ", absl::StrJoin(parts, " "));
  }
};

// A step on one rank, from cleared gradients. Parts alternate after two micro-batches, as in an
// interleaved pipeline: (1, 0) (1, 1) (0, 0) (0, 1) (1, 2) (0, 2) are the parts and micro-batches
// of two and three.
absl::Status Step(GradientReducer& reducer, ParameterArena& arena, const Layout& run,
                  const Term& term, int rank) {
  const TestContext ctx(OpSet::kAuto, 1);
  STRAKE_RETURN_IF_ERROR(reducer.ClearGrads(ctx));
  for (int group = 0; group < run.num_micro_batches; group += 2) {
    const int end = std::min(group + 2, run.num_micro_batches);
    for (int part = static_cast<int>(run.parts.size()) - 1; part >= 0; --part) {
      for (int m = group; m < end; ++m) {
        reducer.StartMicroBatch(ctx, /*last=*/m + 1 == run.num_micro_batches, part);
        Backward(ctx, reducer, arena, term, rank, m, part);
        STRAKE_RETURN_IF_ERROR(reducer.FinishMicroBatch(ctx));
      }
    }
  }
  return absl::OkStatus();
}

using RankBody = std::function<absl::Status(GradientReducer&, ParameterArena&, Communicator&)>;

absl::Status OnEveryRank(const Layout& run, const RankBody& body) {
  return RunOnThreads({.dp = run.dp, .pp = 1, .cp = 1, .tp = 1}, {.check = true},
                      [&](const Mesh& mesh) -> absl::Status {
                        Communicator& dp = mesh.communicator(MeshAxis::kDp);
                        const auto arena = MakeArena(run.dtype, run.dp, run.options, run.parts);
                        STRAKE_ASSIGN_OR_RETURN(
                            const std::unique_ptr<GradientReducer> reducer,
                            GradientReducer::Create(arena.get(), dp, run.options));
                        return body(*reducer, *arena, dp);
                      });
}

// [num_elements]: the sum over ranks, micro-batches and parts, 0 in the gaps.
std::vector<double> ExpectedSums(const ParameterArena& arena, const Layout& run) {
  std::vector<double> sums(arena.num_elements());
  for (size_t p = 0; p < arena.records().size(); ++p) {
    const ParameterRecord& record = arena.records()[p];
    for (int64_t i = 0; i < record.num_elements(); ++i) {
      double& sum = sums[record.offset + i];
      for (int r = 0; r < run.dp; ++r) {
        for (int m = 0; m < run.num_micro_batches; ++m) {
          sum += SmallInteger(r, m, 0, kOffsets[p] + i);
          if (p == 0) sum += SmallInteger(r, m, 1, i);
        }
      }
    }
  }
  return sums;
}

void ExpectSums(const GradientReducer& reducer, const std::vector<double>& sums,
                const Layout& run) {
  int num_wrong = 0;
  for (const ArenaPart& part : reducer.grads()) {
    for (int64_t i = part.begin; i < part.end(); ++i) {
      num_wrong += GetElement(part.values, i - part.begin) != sums[i];
    }
  }
  EXPECT_EQ(num_wrong, 0) << run.ToString();
}

// Expects the number and the bytes of each rank's calls per step.
void ExpectCalls(const ParameterArena& arena, const Communicator& dp, const Layout& run) {
  const int64_t num_buckets = GradientBuckets(arena, run.options.bucket_bytes).size();
  const int64_t times = run.dp == 1 ? 0 : run.options.zero == 2 ? run.num_micro_batches : 1;
  const DType dtype = run.options.reduce_in_bf16 ? DType::kBf16 : arena.grad_dtype();
  const CollectiveStats::Entry expected = {
      times * num_buckets, times * arena.num_elements() * static_cast<int64_t>(DTypeSize(dtype))};
  const Kind kind = run.options.zero == 0 ? Kind::kAllReduceSum : Kind::kReduceScatterSum;
  EXPECT_EQ(dp.stats()[kind], expected) << run.ToString();
  EXPECT_EQ(dp.stats().Total(), expected) << run.ToString();
}

void ExpectSumsOf(const Layout& run) {
  const absl::Status status = OnEveryRank(
      run, [&](GradientReducer& reducer, ParameterArena& arena, Communicator& dp) -> absl::Status {
        std::vector<ShardRange> ranges;
        for (const ArenaPart& part : reducer.grads()) ranges.push_back(part.range());
        EXPECT_EQ(ranges, UpdatedRanges(arena, run.dp, dp.rank(), run.options)) << run.ToString();
        for (int step = 0; step < 2; ++step) {
          dp.ClearStats();
          STRAKE_RETURN_IF_ERROR(Step(reducer, arena, run, SmallInteger, dp.rank()));
          ExpectSums(reducer, ExpectedSums(arena, run), run);
          ExpectCalls(arena, dp, run);
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status << "\n" << run.ToString();
}

TEST(GradientReducerTest, SumsOverRanksAndMicroBatches) {
  for (int dp = 1; dp <= 4; ++dp) {
    for (int zero = 0; zero <= 2; ++zero) {
      for (const int64_t bucket_bytes : kBucketBytes) {
        for (const bool overlap : {true, false}) {
          for (const int num_micro_batches : {1, 3}) {
            ExpectSumsOf(
                {.dp = dp,
                 .num_micro_batches = num_micro_batches,
                 .options = {.zero = zero, .bucket_bytes = bucket_bytes, .overlap = overlap}});
          }
        }
      }
    }
  }
}

// One parameter per bucket: slots of the parts below begin with bucket 4 and 2, and with the last.
const Parts kParts[] = {{0, 3}, {0, 5}, {0, 1}, {0, 2, 5}, {0, 0, 5, 5}, {0, 4, 7}};

TEST(GradientReducerTest, SumsOverRanksAndMicroBatchesOfParts) {
  for (int dp = 1; dp <= 3; ++dp) {
    for (int zero = 0; zero <= 2; ++zero) {
      for (const Parts& parts : kParts) {
        for (const bool overlap : {true, false}) {
          ExpectSumsOf({.dp = dp,
                        .num_micro_batches = 3,
                        .options = {.zero = zero, .bucket_bytes = 1, .overlap = overlap},
                        .parts = parts});
        }
      }
    }
  }
}

TEST(GradientReducerTest, PartsMayBePaddingAlone) {
  for (const int zero : {1, 2}) ExpectSumsOf({.dp = 14, .options = {zero, 1}});
}

TEST(GradientReducerTest, OtherDTypes) {
  for (const DType dtype : {DType::kF64, DType::kBf16}) {
    for (int zero = 0; zero <= 2; ++zero) {
      ExpectSumsOf({.dp = 2, .num_micro_batches = 2, .options = {zero, 1}, .dtype = dtype});
    }
  }
}

// [kSize] after a step: all ranks' grads(), joined, without padding.
std::vector<float> BitsOf(const Layout& run, const Term& term = NormalNumber) {
  std::vector<float> all(kSize);
  std::mutex mutex;
  const absl::Status status = OnEveryRank(
      run, [&](GradientReducer& reducer, ParameterArena& arena, Communicator& dp) -> absl::Status {
        STRAKE_RETURN_IF_ERROR(Step(reducer, arena, run, term, dp.rank()));
        const std::lock_guard<std::mutex> lock(mutex);
        for (const ArenaPart& part : reducer.grads()) {
          for (size_t p = 0; p < arena.records().size(); ++p) {
            const ParameterRecord& record = arena.records()[p];
            const ShardRange both{std::max(part.begin, record.offset),
                                  std::min(part.end(), record.end())};
            if (both.size() <= 0) continue;
            std::memcpy(&all[kOffsets[p] + both.begin - record.offset], part.Rows(both).raw(),
                        both.size() * sizeof(float));
          }
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return all;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(GradientReducerTest, BucketsOverlapAndShardedSumsMoveNoBit) {
  for (const int num_micro_batches : {1, 3}) {
    Layout run = {.dp = 3, .num_micro_batches = num_micro_batches};
    const std::vector<float> all_reduced = BitsOf(run);
    run.options.zero = 2;
    const std::vector<float> sharded = BitsOf(run);
    // Zero 2 adds micro-batches after ranks, the others before.
    EXPECT_EQ(SameBits(sharded, all_reduced), num_micro_batches == 1);
    for (int zero = 0; zero <= 2; ++zero) {
      for (const int64_t bucket_bytes : kBucketBytes) {
        for (const bool overlap : {true, false}) {
          run.options = {.zero = zero, .bucket_bytes = bucket_bytes, .overlap = overlap};
          EXPECT_TRUE(SameBits(BitsOf(run), zero == 2 ? sharded : all_reduced)) << run.ToString();
        }
      }
    }
  }
}

// Their passes alternate, and each has its micro-batches in order.
TEST(GradientReducerTest, PartsOfTheArenaMoveNoBit) {
  for (int dp = 1; dp <= 3; ++dp) {
    for (int zero = 0; zero <= 2; ++zero) {
      for (const bool in_bf16 : {false, true}) {
        Layout run = {.dp = dp,
                      .num_micro_batches = 3,
                      .options = {.zero = zero, .bucket_bytes = 1, .reduce_in_bf16 = in_bf16}};
        const std::vector<float> one_part = BitsOf(run);
        for (const Parts& parts : kParts) {
          run.parts = parts;
          for (const int64_t bucket_bytes : {1, 4 * 200, 1 << 20}) {
            run.options.bucket_bytes = bucket_bytes;
            for (const bool overlap : {true, false}) {
              run.options.overlap = overlap;
              EXPECT_TRUE(SameBits(BitsOf(run), one_part)) << run.ToString();
            }
          }
        }
      }
    }
  }
}

// The gradients of each rank, [dp] by [kSize], before they are summed.
std::vector<std::vector<float>> LocalGradients(int dp) {
  std::vector<std::vector<float>> all;
  for (int rank = 0; rank < dp; ++rank) {
    all.push_back(BitsOf({.dp = 1}, [rank](int, int micro_batch, int part, int64_t i) {
      return NormalNumber(rank, micro_batch, part, i);
    }));
  }
  return all;
}

// Gradients are rounded to bf16, added in f32 in rank order, and rounded once: within the header's
// bound.
TEST(GradientReducerTest, InBf16SumsAreWithinTheirBound) {
  const auto round = [](float x) { return static_cast<float>(Bf16(x)); };
  for (int dp = 2; dp <= 4; ++dp) {
    const std::vector<std::vector<float>> local = LocalGradients(dp);
    const double u = 0x1p-8, bound = 2 * u + u * u + (dp - 1) * 0x1p-23;
    std::vector<float> expected(kSize);
    int num_rounded = 0;
    for (int64_t i = 0; i < kSize; ++i) {
      double sum = 0, magnitude = 0;
      for (int rank = 0; rank < dp; ++rank) {
        sum += local[rank][i];
        magnitude += std::abs(local[rank][i]);
        expected[i] += round(local[rank][i]);
      }
      expected[i] = round(expected[i]);
      ASSERT_LE(std::abs(expected[i] - sum), bound * magnitude) << i;
      num_rounded += std::abs(expected[i] - sum) > 0.01 * bound * magnitude;
    }
    EXPECT_GT(num_rounded, kSize / 4);
    for (int zero = 0; zero <= 2; ++zero) {
      for (const int64_t bucket_bytes : kBucketBytes) {
        for (const bool overlap : {true, false}) {
          const Layout run = {.dp = dp,
                              .options = {.zero = zero,
                                          .bucket_bytes = bucket_bytes,
                                          .reduce_in_bf16 = true,
                                          .overlap = overlap}};
          EXPECT_TRUE(SameBits(BitsOf(run), expected)) << run.ToString();
        }
      }
    }
  }
}

// Small integers, which bf16 holds, and their sums.
TEST(GradientReducerTest, InBf16HalfTheBytesAreMoved) {
  const Term small = [](int rank, int micro_batch, int, int64_t i) {
    return static_cast<double>((i + rank + micro_batch) % 7);
  };
  for (int zero = 0; zero <= 2; ++zero) {
    const Layout run = {.dp = 3,
                        .num_micro_batches = 2,
                        .options = {.zero = zero, .bucket_bytes = 1, .reduce_in_bf16 = true}};
    Layout in_f32 = run;
    in_f32.options.reduce_in_bf16 = false;
    EXPECT_TRUE(SameBits(BitsOf(run, small), BitsOf(in_f32, small))) << run.ToString();
    const absl::Status status = OnEveryRank(
        run,
        [&](GradientReducer& reducer, ParameterArena& arena, Communicator& dp) -> absl::Status {
          STRAKE_RETURN_IF_ERROR(Step(reducer, arena, run, small, dp.rank()));
          ExpectCalls(arena, dp, run);
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(GradientReducerTest, GapsStayZero) {
  for (const int zero : {0, 1}) {
    const Layout run = {.dp = 2, .num_micro_batches = 2, .options = {zero, 1}};
    const absl::Status status = OnEveryRank(
        run,
        [&](GradientReducer& reducer, ParameterArena& arena, Communicator& dp) -> absl::Status {
          STRAKE_RETURN_IF_ERROR(Step(reducer, arena, run, NormalNumber, dp.rank()));
          std::vector<bool> is_gap(arena.num_elements(), true);
          for (const ParameterRecord& p : arena.records()) {
            std::fill_n(is_gap.begin() + p.offset, p.num_elements(), false);
          }
          for (int64_t i = 0; i < arena.num_elements(); ++i) {
            EXPECT_EQ(arena.grads().data<float>()[i] == 0, is_gap[i]) << i;
          }
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

// Buckets of dp 3 are multiples of 192 elements. With one parameter per bucket, of 64, 192, 64,
// 64, 256, 64 and 64 elements in this order, six have 192 and one has 384: 1536 together. The first
// six share three slots of 192, 384 and 192, and the last has its own slot of 192.
TEST(GradientReducerTest, GradientBytesCountPaddingAndSlots) {
  const auto bytes = [](int dp, const GradientReducerOptions& options) {
    ParameterArena dry_run;
    AddParameters(&dry_run);
    PadBuckets(&dry_run, DType::kF32, dp, options);
    dry_run.AllocateDryRun(DType::kF32);
    return GradientReducer::GradientBytes(dry_run, dp, options);
  };
  EXPECT_EQ(bytes(3, {0, 1}), 4 * kSize);
  EXPECT_EQ(bytes(3, {1, 1}), 4 * 1536);
  EXPECT_EQ(bytes(1, {2, 1}), 4 * kSize);
  EXPECT_EQ(bytes(3, {2, 1}), 4 * (512 + 192 + 384 + 192 + 192));
  // 256, 384 and 128 elements, padded to 384, 384 and 192: each has its own slot.
  EXPECT_EQ(bytes(3, {2, 4 * 200}), 4 * (320 + 960));
  EXPECT_EQ(bytes(14, {2, 1 << 20}), 4 * (64 + 896));
  // Two buffers of the largest bucket; none for one rank.
  EXPECT_EQ(bytes(3, {.zero = 0, .bucket_bytes = 1, .reduce_in_bf16 = true}),
            4 * kSize + 2 * 2 * 256);
  EXPECT_EQ(bytes(3, {.zero = 2, .bucket_bytes = 1, .reduce_in_bf16 = true}),
            4 * (512 + 192 + 384 + 192 + 192) + 2 * 2 * 384);
  EXPECT_EQ(bytes(1, {.zero = 1, .bucket_bytes = 1, .reduce_in_bf16 = true}), 4 * kSize);
}

// Expects that these parameters have memory before a pass of `part`, in it, and after the first
// announcement, that of parameter `first`.
void ExpectMemoryOf(const Parts& parts, int part, int first, const std::string& in_pass,
                    const std::string& after_first) {
  const GradientReducerOptions options = {.zero = 2, .bucket_bytes = 1};
  const auto arena = MakeArena(DType::kF32, 2, options, parts);
  const auto ranks = CreateThreadsCommunicators(2, {});
  auto reducer = GradientReducer::Create(arena.get(), *ranks[0], options);
  ASSERT_TRUE(reducer.ok()) << reducer.status();
  const auto with_memory = [&] {
    std::string names;
    for (const ParameterRecord& p : arena->records()) {
      if (p.parameter.grad.raw() != nullptr) absl::StrAppend(&names, p.name(), " ");
    }
    return names;
  };
  EXPECT_EQ(with_memory(), "");
  const TestContext ctx;
  (*reducer)->StartMicroBatch(ctx, true, part);
  EXPECT_EQ(with_memory(), in_pass);
  (*reducer)->OnGradReady(ctx, arena->records()[first].parameter);
  EXPECT_EQ(with_memory(), after_first);
}

TEST(GradientReducerTest, OnlyBucketsInFlightHaveMemory) {
  ExpectMemoryOf({0}, 0, 6, "embedding norm.weight norm.bias ", "embedding single norm.weight ");
  ExpectMemoryOf({0, 5}, 1, 6, "norm.weight norm.bias ", "norm.weight ");
  ExpectMemoryOf({0, 5}, 0, 4, "embedding bias single ", "embedding weight bias ");
  ExpectMemoryOf({0, 2}, 0, 1, "embedding positions ", "embedding ");
  ExpectMemoryOf({0, 1}, 0, 0, "embedding ", "");
}

// Rank 0 of two, whose arena's second part begins at the fourth parameter. Rank 1 announces
// nothing.
struct RankAlone {
  explicit RankAlone(const GradientReducerOptions& options)
      : arena(MakeArena(DType::kF32, 2, options, {0, 3})),
        ranks(CreateThreadsCommunicators(2, {})) {
    auto created = GradientReducer::Create(arena.get(), *ranks[0], options);
    EXPECT_TRUE(created.ok()) << created.status();
    reducer = *std::move(created);
  }
  absl::Status Pass(int part, bool last) {
    reducer->StartMicroBatch(ctx, last, part);
    Backward(ctx, *reducer, *arena, SmallInteger, 0, 0, part);
    return reducer->FinishMicroBatch(ctx);
  }

  const TestContext ctx{OpSet::kAuto, 1};
  std::unique_ptr<ParameterArena> arena;
  std::vector<std::unique_ptr<Communicator>> ranks;
  std::unique_ptr<GradientReducer> reducer;
};

TEST(GradientReducerTest, SumsOfAPartAreInFlightUntilTheStepsLastPass) {
  for (const int zero : {0, 1}) {
    RankAlone rank({.zero = zero, .bucket_bytes = 1});
    EXPECT_TRUE(rank.Pass(1, /*last=*/false).ok());
    EXPECT_TRUE(rank.Pass(1, /*last=*/true).ok());
    EXPECT_TRUE(rank.Pass(0, /*last=*/false).ok());
    EXPECT_DEATH((void)rank.reducer->ClearGrads(rank.ctx),
                 "before the last micro-batch of 1 of 2 parts");
    rank.ranks[1]->Abort(absl::DataLossError("the disk of rank 1"));
    EXPECT_EQ(rank.Pass(0, /*last=*/true).code(), absl::StatusCode::kDataLoss);
  }
}

TEST(GradientReducerTest, SumsWithSlotsOrInBf16AreWaitedForInTheirPass) {
  for (int zero = 0; zero <= 2; ++zero) {
    RankAlone rank({.zero = zero, .bucket_bytes = 1 << 20, .reduce_in_bf16 = zero < 2});
    rank.ranks[1]->Abort(absl::DataLossError("the disk of rank 1"));
    EXPECT_EQ(rank.Pass(1, /*last=*/true).code(), absl::StatusCode::kDataLoss) << zero;
  }
}

// Rank 1 stops before its backward pass, or during it.
TEST(GradientReducerTest, AFailedRankIsAnErrorOfFinishMicroBatch) {
  for (int zero = 0; zero <= 2; ++zero) {
    for (const bool overlap : {true, false}) {
      for (const int num_announced : {0, 3}) {
        const Layout run = {.dp = 2,
                            .options = {.zero = zero, .bucket_bytes = 1, .overlap = overlap}};
        absl::Status of_rank_0;
        const absl::Status status = OnEveryRank(
            run,
            [&](GradientReducer& reducer, ParameterArena& arena, Communicator& dp) -> absl::Status {
              const TestContext ctx(OpSet::kAuto, 1);
              reducer.StartMicroBatch(ctx, true);
              const int end = dp.rank() == 0 ? 0 : 7 - num_announced;
              for (int i = 6; i >= end; --i) reducer.OnGradReady(ctx, arena.records()[i].parameter);
              if (dp.rank() == 1) return absl::DataLossError("the disk of rank 1");
              return of_rank_0 = reducer.FinishMicroBatch(ctx);
            });
        EXPECT_FALSE(status.ok()) << run.ToString();
        EXPECT_THAT(std::string(of_rank_0.message()),
                    AllOf(HasSubstr("axis dp"), HasSubstr("rank 1"),
                          HasSubstr(zero == 0 ? "all_reduce_sum #" : "reduce_scatter_sum #")))
            << run.ToString() << ", announced " << num_announced;
      }
    }
  }
}

class GradientReducerDeathTest : public ::testing::Test {
 protected:
  GradientReducer& Make(const GradientReducerOptions& options, int dp = 1,
                        const Parts& parts = {0}) {
    arena_ = MakeArena(DType::kF32, dp, options, parts);
    ranks_ = CreateThreadsCommunicators(dp, {});
    auto reducer = GradientReducer::Create(arena_.get(), *ranks_[0], options);
    EXPECT_TRUE(reducer.ok()) << reducer.status();
    reducer_ = *std::move(reducer);
    return *reducer_;
  }
  const Parameter& parameter(int i) const { return arena_->records()[i].parameter; }
  const std::string& name(int i) const { return arena_->records()[i].name(); }

  TestContext ctx_;
  std::unique_ptr<ParameterArena> arena_;
  std::vector<std::unique_ptr<Communicator>> ranks_;
  std::unique_ptr<GradientReducer> reducer_;
};

TEST_F(GradientReducerDeathTest, EachParameterOncePerMicroBatch) {
  GradientReducer& reducer = Make({});
  EXPECT_DEATH(reducer.OnGradReady(ctx_, parameter(1)),
               "positions announced outside a micro-batch");
  reducer.StartMicroBatch(ctx_, false);
  const auto other = MakeArena(DType::kF32, 1, {});
  EXPECT_DEATH(reducer.OnGradReady(ctx_, other->records()[1].parameter), "of another arena");
  for (int i = 6; i >= 0; --i) {
    EXPECT_DEATH((void)reducer.FinishMicroBatch(ctx_), name(i) + " was not announced");
    reducer.OnGradReady(ctx_, parameter(i));
    EXPECT_DEATH(reducer.OnGradReady(ctx_, parameter(i)),
                 name(i) + (i > 0 ? " announced, but" : " announced after the last"));
  }
  EXPECT_TRUE(reducer.FinishMicroBatch(ctx_).ok());
}

TEST_F(GradientReducerDeathTest, CallsInTheirOrder) {
  GradientReducer& reducer = Make({});
  EXPECT_DEATH((void)reducer.FinishMicroBatch(ctx_), "without a start");
  reducer.StartMicroBatch(ctx_, true);
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, true), "within a micro-batch");
  EXPECT_DEATH((void)reducer.ClearGrads(ctx_), "within a micro-batch");
  Backward(ctx_, reducer, *arena_, SmallInteger, 0, 0);
  EXPECT_TRUE(reducer.FinishMicroBatch(ctx_).ok());
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, false), "without ClearGrads");
}

TEST_F(GradientReducerDeathTest, PassesAreOfOnePart) {
  GradientReducer& reducer = Make({}, 1, {0, 3});
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, false, 2), "part 2 of 2");
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, false, -1), "part -1 of 2");
  reducer.StartMicroBatch(ctx_, true, 1);
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, true, 0), "part 0 within a micro-batch");
  EXPECT_DEATH(reducer.OnGradReady(ctx_, parameter(2)), "weight announced, but norm.bias is the");
  for (int i = 6; i >= 3; --i) {
    EXPECT_DEATH((void)reducer.FinishMicroBatch(ctx_), name(i) + " was not announced.*part 1");
    reducer.OnGradReady(ctx_, parameter(i));
  }
  EXPECT_DEATH(reducer.OnGradReady(ctx_, parameter(2)),
               "weight announced after the last of part 1");
  EXPECT_TRUE(reducer.FinishMicroBatch(ctx_).ok());
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, false, 1), "part 1 without ClearGrads");
  reducer.StartMicroBatch(ctx_, true, 0);
  EXPECT_DEATH(reducer.OnGradReady(ctx_, parameter(3)), "bias announced, but weight is the next");
  Backward(ctx_, reducer, *arena_, SmallInteger, 0, 0, 0);
  EXPECT_TRUE(reducer.FinishMicroBatch(ctx_).ok());
  EXPECT_DEATH(reducer.StartMicroBatch(ctx_, false, 0), "part 0 without ClearGrads");
  EXPECT_TRUE(reducer.ClearGrads(ctx_).ok());
  reducer.StartMicroBatch(ctx_, false, 1);
}

TEST_F(GradientReducerDeathTest, TheArenasOrderIsThatOfAnnouncements) {
  GradientReducer& reducer = Make({.zero = 2, .bucket_bytes = 1}, 2);
  reducer.StartMicroBatch(ctx_, true);
  for (const int i : {0, 2, 5}) {
    EXPECT_DEATH(reducer.OnGradReady(ctx_, parameter(i)),
                 name(i) + " announced, but norm.bias is the next");
  }
}

TEST_F(GradientReducerDeathTest, ArenaAndOptionsMustFit) {
  Make({});
  EXPECT_DEATH((void)GradientReducer::Create(arena_.get(), *ranks_[0], {.zero = 2}),
               "zero 2, values f32\\[768\\], gradients f32\\[768\\]");
  const auto f64 = MakeArena(DType::kF64, 1, {});
  EXPECT_DEATH((void)GradientReducer::Create(f64.get(), *ranks_[0], {.reduce_in_bf16 = true}),
               "gradients f64, to be reduced in bf16");
  EXPECT_DEATH((void)GradientReducer::Create(arena_.get(), *ranks_[0], {.zero = 3}), "zero 3");
}

}  // namespace
}  // namespace strake
