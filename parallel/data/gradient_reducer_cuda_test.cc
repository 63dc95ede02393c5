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
#include "parallel/data/gather_values.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/data/gradient_reducer.h"
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

// Ragged, with gaps behind them, at 0, 64, 128 and 384 of 448.
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

// The sums over ranks and micro-batches within `range`, 0 in the gaps.
void ExpectSums(const ParameterArena& arena, int dp, const ShardRange& range, const Tensor& grads) {
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
  const auto host = HostCopy::Of(grads);
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_TRUE(SameBits(*host, expected->Rows(range.begin, range.end)));
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
              STRAKE_RETURN_IF_ERROR(arena.Allocate(dtype, zero < 2, Device::kCuda));
              STRAKE_ASSIGN_OR_RETURN(
                  const std::unique_ptr<GradientReducer> reducer,
                  GradientReducer::Create(&arena, group, {.zero = zero, .bucket_bytes = 1}));
              EXPECT_EQ(reducer->grads().dtype(), DType::kF32);
              const auto terms = TermsOf(group.rank(), arena.num_elements());
              for (int step = 0; step < 2; ++step) {
                STRAKE_RETURN_IF_ERROR(Step(ctx, *reducer, arena, terms));
                ExpectSums(arena, dp, reducer->range(), reducer->grads());
              }
              return absl::OkStatus();
            });
        EXPECT_TRUE(status.ok()) << status;
      }
    }
  }
}

TEST(GatherValuesCudaTest, EveryRankGetsEachRanksRange) {
  constexpr int64_t kSize = 320;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const absl::Status status =
        OnRanksThatShareAGpu(3, [&](const Context&, Communicator& group) -> absl::Status {
          const TestTensor expected(dtype, {kSize}), host(dtype, {kSize});
          testing::FillNormal(expected, 1);
          const ShardRange own = DataParallelRange(kSize, 3, group.rank());
          testing::CopyConvert(expected->Rows(own.begin, own.end), host->Rows(own.begin, own.end));
          const CudaTestTensor values(host);
          STRAKE_RETURN_IF_ERROR(GatherValues(values, group));
          EXPECT_TRUE(SameBits(values.ToHost(), expected)) << "rank " << group.rank();
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

}  // namespace
}  // namespace strake
