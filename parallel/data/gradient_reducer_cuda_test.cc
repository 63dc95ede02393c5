// Data-parallel ranks that share a GPU: gradients are small integers, whose sums are exact.
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/memory/device_memory.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/data/weight_gather.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::GetElement;
using testing::SameBits;
using testing::SetElement;
using testing::TestTensor;

constexpr int kMicroBatches = 2;

// Ragged, with gaps behind them.
void AddParameters(ParameterArena* arena) {
  arena->Add({{"embedding", 7}}, {5, 7}, true);
  arena->Add({{"positions", 3}}, {3}, true);
  arena->Add({{"weight", 3}}, {70, 3}, true);
  arena->Add({{"bias", 7}}, {7}, false);
}

// The term that a backward pass adds to element i of the index space.
double Term(int rank, int micro_batch, int64_t i) {
  return static_cast<double>((i * 7 + rank * 31 + micro_batch * 11) % 97 - 40);
}

absl::Status OnRanksThatShareAGpu(
    int dp, const std::function<absl::Status(const Context&, Communicator&)>& body) {
  return RunOnThreads({.dp = dp, .pp = 1, .cp = 1, .tp = 1}, {}, [&](const Mesh& mesh) {
    const CudaTestContext gpu;
    const Context& ctx = gpu;
    mesh.BindCudaStream(ctx.cuda_stream());
    const absl::Status status = body(ctx, mesh.communicator(MeshAxis::kDp));
    return status.ok() ? SynchronizeCudaStream(ctx.cuda_stream()) : status;
  });
}

// The terms of a rank's micro-batches over the index space, on the GPU.
std::vector<std::unique_ptr<CudaTestTensor>> TermsOf(int rank, int64_t num_elements) {
  std::vector<std::unique_ptr<CudaTestTensor>> terms;
  for (int m = 0; m < kMicroBatches; ++m) {
    const TestTensor host(DType::kF32, {num_elements});
    for (int64_t i = 0; i < num_elements; ++i) SetElement(host, i, Term(rank, m, i));
    terms.push_back(std::make_unique<CudaTestTensor>(host));
  }
  return terms;
}

// Does not wait for the GPU between the first micro-batch and the last.
absl::Status Step(const Context& ctx, GradientReducer& reducer, const ParameterArena& arena,
                  const std::vector<std::unique_ptr<CudaTestTensor>>& terms) {
  STRAKE_RETURN_IF_ERROR(reducer.ClearGrads(ctx));
  for (int m = 0; m < kMicroBatches; ++m) {
    reducer.StartMicroBatch(ctx, /*last=*/m + 1 == kMicroBatches);
    for (auto p = arena.records().rbegin(); p != arena.records().rend(); ++p) {
      const Tensor all = *terms[m];
      const Tensor term = all.Rows(p->offset, p->end()).Reshape(p->shape());
      STRAKE_RETURN_IF_ERROR(ResidualAddForward(ctx, p->parameter.grad, term, p->parameter.grad));
      reducer.OnGradReady(ctx, p->parameter);
    }
    STRAKE_RETURN_IF_ERROR(reducer.FinishMicroBatch(ctx));
  }
  return absl::OkStatus();
}

// The sums over ranks and micro-batches, 0 in the gaps.
void ExpectSums(const ParameterArena& arena, int dp, const std::vector<ArenaPart>& grads) {
  const TestTensor expected(DType::kF32, {arena.num_elements()});
  testing::FillConstant(expected, 0);
  for (const ParameterRecord& p : arena.records()) {
    for (int64_t i = p.offset; i < p.end(); ++i) {
      for (int rank = 0; rank < dp; ++rank) {
        for (int m = 0; m < kMicroBatches; ++m) {
          SetElement(expected, i, GetElement(expected, i) + Term(rank, m, i));
        }
      }
    }
  }
  for (const ArenaPart& part : grads) {
    const auto host = HostCopy::Of(part.values);
    ASSERT_TRUE(host.ok()) << host.status();
    EXPECT_TRUE(SameBits(*host, expected->Rows(part.begin, part.end())));
  }
}

TEST(GradientReducerCudaTest, SumsOverRanksAndMicroBatches) {
  for (const int dp : {1, 2, 3}) {
    for (int zero = 0; zero <= 2; ++zero) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        SCOPED_TRACE(::testing::Message()
                     << "dp " << dp << ", zero " << zero << ", " << DTypeName(dtype));
        const absl::Status status =
            OnRanksThatShareAGpu(dp, [&](const Context& ctx, Communicator& group) -> absl::Status {
              ParameterArena arena;
              AddParameters(&arena);
              const GradientReducerOptions options = {.zero = zero, .bucket_bytes = 1};
              PadBuckets(&arena, dtype, dp, options);
              STRAKE_RETURN_IF_ERROR(arena.Allocate(dtype, zero < 2, Device::kCuda));
              STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<GradientReducer> reducer,
                                      GradientReducer::Create(&arena, group, options));
              EXPECT_EQ(reducer->grads()[0].values.dtype(), DType::kF32);
              const auto terms = TermsOf(group.rank(), arena.num_elements());
              for (int step = 0; step < 2; ++step) {
                STRAKE_RETURN_IF_ERROR(Step(ctx, *reducer, arena, terms));
                ExpectSums(arena, dp, reducer->grads());
              }
              return absl::OkStatus();
            });
        EXPECT_TRUE(status.ok()) << status;
      }
    }
  }
}

// Small integers, which bf16 holds, and their sums.
TEST(GradientReducerCudaTest, SumsInBf16) {
  for (int zero = 0; zero <= 2; ++zero) {
    const GradientReducerOptions options = {
        .zero = zero, .bucket_bytes = 1, .reduce_in_bf16 = true};
    const absl::Status status =
        OnRanksThatShareAGpu(2, [&](const Context& ctx, Communicator& group) -> absl::Status {
          ParameterArena arena;
          AddParameters(&arena);
          PadBuckets(&arena, DType::kF32, 2, options);
          STRAKE_RETURN_IF_ERROR(arena.Allocate(DType::kF32, zero < 2, Device::kCuda));
          STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<GradientReducer> reducer,
                                  GradientReducer::Create(&arena, group, options));
          const auto terms = TermsOf(group.rank(), arena.num_elements());
          for (int step = 0; step < 2; ++step) {
            STRAKE_RETURN_IF_ERROR(Step(ctx, *reducer, arena, terms));
            ExpectSums(arena, 2, reducer->grads());
          }
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(WeightGatherCudaTest, EveryRankGetsEachRanksParts) {
  const GradientReducerOptions options = {.zero = 1, .bucket_bytes = 1};
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const absl::Status status =
        OnRanksThatShareAGpu(3, [&](const Context&, Communicator& group) -> absl::Status {
          ParameterArena arena;
          AddParameters(&arena);
          PadBuckets(&arena, dtype, 3, options);
          STRAKE_RETURN_IF_ERROR(arena.Allocate(dtype, /*with_gradients=*/false, Device::kCuda));
          const TestTensor expected(dtype, {arena.num_elements()}), own(dtype, expected->shape());
          testing::FillNormal(expected, 1);
          testing::FillConstant(own, 0);
          for (const ShardRange& range : UpdatedRanges(arena, 3, group.rank(), options)) {
            testing::CopyConvert(expected->Rows(range.begin, range.end),
                                 own->Rows(range.begin, range.end));
          }
          STRAKE_RETURN_IF_ERROR(CopyBlocking(own, arena.values()));
          WeightGather gather(arena, group, options);
          gather.Start();
          STRAKE_RETURN_IF_ERROR(gather.WaitForAll());
          STRAKE_ASSIGN_OR_RETURN(const HostCopy values, HostCopy::Of(arena.values()));
          EXPECT_TRUE(SameBits(values, expected)) << "rank " << group.rank();
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

}  // namespace
}  // namespace strake
