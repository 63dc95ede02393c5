// Partial gradients of ranks that share a GPU: small integers, whose sums are exact.
#include <cstdint>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/partial_gradients.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::GetElement;
using testing::SameBits;
using testing::SetElement;
using testing::TestTensor;

constexpr int kRanks = 4, kHolders = 2;

// A slice with a term on each of `num_holders` ranks.
SegmentSlice Partial(int64_t rows, int64_t columns, int num_holders) {
  return {.full_rows = rows,
          .full_columns = columns,
          .num_rows = rows,
          .num_holders = num_holders,
          .partial_grad = true};
}

// A norm, with a term on every rank, and [Q | K | V], with terms of K and V on pairs of ranks.
void AddParameters(ParameterArena* arena) {
  arena->Add({{.name = "norm", .columns = 70, .slice = Partial(1, 70, kRanks)}}, {70}, false);
  arena->Add({{.name = "q", .columns = 6},
              {.name = "k", .columns = 2, .slice = Partial(7, 2, kHolders)},
              {.name = "v", .columns = 3, .slice = Partial(7, 3, kHolders)}},
             {7, 11}, true);
}

int FirstHolder(int64_t i, int rank) {
  if (i < 70) return 0;
  return i >= 128 && i < 128 + 77 && (i - 128) % 11 >= 6 ? rank / kHolders * kHolders : rank;
}
int NumHolders(int64_t i) {
  if (i < 70) return kRanks;
  return FirstHolder(i, 1) == 0 ? kHolders : 1;
}
double Term(int rank, int64_t i) { return static_cast<double>((i * 7 + rank * 31) % 97 - 40); }

absl::Status SumAndCompare(const Context& ctx, const TensorParallel& tp, const ShardRange& range) {
  ParameterArena parameters;
  AddParameters(&parameters);
  const TestTensor terms(DType::kF32, {range.size()}), sums(DType::kF32, {range.size()});
  for (int64_t i = range.begin; i < range.end; ++i) {
    double sum = 0;
    const int first = FirstHolder(i, tp.rank());
    for (int rank = first; rank < first + NumHolders(i); ++rank) sum += Term(rank, i);
    SetElement(terms, i - range.begin, Term(tp.rank(), i));
    SetElement(sums, i - range.begin, sum);
  }
  const CudaTestTensor grads(terms);
  STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial, PartialGradients::Create(parameters, tp));
  STRAKE_RETURN_IF_ERROR(partial.Sum(ctx, {{range.begin, grads}}));
  EXPECT_TRUE(SameBits(grads.ToHost(), sums)) << "[" << range.begin << ", " << range.end << ")";
  ActivationArena plan = ActivationArena::DryRun(Device::kCuda);
  ThreadTeam team(1);
  EXPECT_TRUE(partial
                  .Sum(Context(&team, &plan),
                       {{range.begin, Tensor(nullptr, DType::kF32, {range.size()}, Device::kCuda)}})
                  .ok());
  EXPECT_EQ(plan.peak_bytes(), ctx.arena().peak_bytes());
  return absl::OkStatus();
}

TEST(PartialGradientsCudaTest, SumsOverTheHolders) {
  for (const ShardRange range : {ShardRange{0, 256}, {33, 171}}) {
    const absl::Status status = RunOnThreads(
        {.dp = 1, .pp = 1, .cp = 1, .tp = kRanks}, {}, [&](const Mesh& mesh) -> absl::Status {
          const CudaTestContext gpu;
          const Context& ctx = gpu;
          mesh.BindCudaStream(ctx.cuda_stream());
          const TensorParallel tp(mesh.communicator(MeshAxis::kTp));
          STRAKE_RETURN_IF_ERROR(SumAndCompare(ctx, tp, range));
          return SynchronizeCudaStream(ctx.cuda_stream());
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

}  // namespace
}  // namespace strake
