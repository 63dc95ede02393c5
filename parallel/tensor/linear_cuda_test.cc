// Column- and row-parallel layers on ranks that share a GPU, against the whole layer in f64 on the
// CPU. Inputs are small integers: every sum is exact in f32, in any order.
#include <memory>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillSmallIntegers;
using testing::LocalTokens;
using testing::MaxAbs;
using testing::SameBits;
using testing::TestTensor;
using testing::WholeLinear;

constexpr int kRanks = 2;
constexpr int64_t kTokens = 6, kIn = 4, kOut = 10;

// The whole layer after a micro-batch.
struct Whole : WholeLinear {
  Whole() : WholeLinear({DType::kF64, OpSet::kReference}, kIn, kOut, /*has_bias=*/true) {
    FillSmallIntegers(x, 1);
    FillSmallIntegers(dy, 2);
    result = Run(x, dy);
  }
  TestTensor x{DType::kF64, {kTokens, kIn}}, dy{DType::kF64, {kTokens, kOut}};
  Result result;
};

// Copies a rank's part of a tensor in f64 to the GPU in f32.
CudaTestTensor OnGpu(const Tensor& x) {
  TestTensor f32(DType::kF32, x.shape());
  CopyConvert(x, f32);
  return CudaTestTensor(f32);
}

void Set(const Tensor& on_gpu, const Tensor& x) {
  ASSERT_TRUE(CopyBlocking(OnGpu(x), on_gpu).ok());
}

std::unique_ptr<TestTensor> SliceOf(const WeightShards& shards, const Tensor& whole, int rank) {
  auto slice = std::make_unique<TestTensor>(whole.dtype(), shards.shard_shape());
  shards.Slice(whole, rank, *slice);
  return slice;
}

void ExpectEqual(const Tensor& on_gpu, const Tensor& expected, const char* what) {
  TestTensor f32(DType::kF32, expected.shape());
  CopyConvert(expected, f32);
  EXPECT_GT(MaxAbs(f32), 0) << what;
  const auto host = HostCopy::Of(on_gpu);
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_TRUE(SameBits(*host, f32)) << what;
}

WeightShards Cut(const Shape& shape, int dim, int64_t size) {
  return WeightShards::Split(shape, dim, {{"cut", size}}, kRanks).value();
}

// One rank's weight and bias on the GPU, with the values of the whole layer's.
struct Parameters {
  Parameters(const Whole& whole, const WeightShards& weight_shards, const WeightShards& bias_shards,
             const TensorParallel& tp) {
    weight = AddShardedParameter({{"weight", kOut}}, weight_shards, tp, true, {}, &arena);
    bias = AddShardedParameter({{"bias", kOut}}, bias_shards, tp, false, {}, &arena);
    CHECK(arena.Allocate(DType::kF32, /*with_gradients=*/true, Device::kCuda).ok());
    Set(weight->value, *SliceOf(weight_shards, whole.weight->value, tp.rank()));
    Set(bias->value, *SliceOf(bias_shards, whole.bias->value, tp.rank()));
  }
  ParameterArena arena;
  Parameter* weight;
  const Parameter* bias;
};

void OnRanksThatShareAGpu(
    absl::FunctionRef<absl::Status(const Mesh& mesh, const Context& ctx)> body) {
  const absl::Status status =
      RunOnThreads({.dp = 1, .pp = 1, .cp = 1, .tp = kRanks}, {}, [&](const Mesh& mesh) {
        CudaTestContext ctx;
        mesh.BindCudaStream(ctx.context().cuda_stream());
        const absl::Status status = body(mesh, ctx);
        return status.ok() ? SynchronizeCudaStream(ctx.context().cuda_stream()) : status;
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ParallelLinearCudaTest, Columns) {
  const Whole whole;
  const WeightShards weights = Cut({kIn, kOut}, -1, kOut), biases = Cut({kOut}, -1, kOut);
  const WeightShards outputs = Cut({kTokens, kOut}, -1, kOut);
  for (const bool sp : {false, true}) {
    OnRanksThatShareAGpu([&](const Mesh& mesh, const Context& ctx) -> absl::Status {
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
      const Parameters parameters(whole, weights, biases, tp);
      const ColumnParallelLinear layer(parameters.weight, parameters.bias, tp);
      const CudaTestTensor x = OnGpu(LocalTokens(whole.x, mesh, sp));
      const CudaTestTensor dy = OnGpu(*SliceOf(outputs, whole.dy, tp.rank()));
      LinearSaved saved;
      STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, &saved));
      Pending<Tensor> pending_dx = layer.BackwardInput(ctx, dy, &saved);
      STRAKE_RETURN_IF_ERROR(layer.BackwardWeight(ctx, dy, saved));
      STRAKE_ASSIGN_OR_RETURN(const Tensor dx, pending_dx.Wait());
      ExpectEqual(y, *SliceOf(outputs, whole.result.y, tp.rank()), "y");
      ExpectEqual(dx, LocalTokens(whole.result.dx, mesh, sp), "dx");
      ExpectEqual(parameters.weight->grad, *SliceOf(weights, whole.weight->grad, tp.rank()), "dw");
      ExpectEqual(parameters.bias->grad, *SliceOf(biases, whole.bias->grad, tp.rank()), "db");
      return absl::OkStatus();
    });
  }
}

TEST(ParallelLinearCudaTest, Rows) {
  const Whole whole;
  const WeightShards weights = Cut({kIn, kOut}, 0, kIn);
  const WeightShards biases = WeightShards::Replicated({kOut}, kRanks);
  const WeightShards inputs = Cut({kTokens, kIn}, -1, kIn);
  for (const bool sp : {false, true}) {
    OnRanksThatShareAGpu([&](const Mesh& mesh, const Context& ctx) -> absl::Status {
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
      const Parameters parameters(whole, weights, biases, tp);
      const RowParallelLinear layer(parameters.weight, parameters.bias, tp);
      const CudaTestTensor x = OnGpu(*SliceOf(inputs, whole.x, tp.rank()));
      const CudaTestTensor dy = OnGpu(LocalTokens(whole.dy, mesh, sp));
      RowParallelLinearSaved saved;
      STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, &saved));
      STRAKE_ASSIGN_OR_RETURN(const Tensor dx, layer.BackwardInput(ctx, dy, &saved).Wait());
      STRAKE_RETURN_IF_ERROR(layer.BackwardWeight(ctx, dy, saved));
      ExpectEqual(y, LocalTokens(whole.result.y, mesh, sp), "y");
      ExpectEqual(dx, *SliceOf(inputs, whole.result.dx, tp.rank()), "dx");
      ExpectEqual(parameters.weight->grad, *SliceOf(weights, whole.weight->grad, tp.rank()), "dw");
      // With sequence parallelism, a rank has the terms of its own tokens.
      STRAKE_RETURN_IF_ERROR(sp ? tp.AllReduceSum(ctx, parameters.bias->grad) : absl::OkStatus());
      ExpectEqual(parameters.bias->grad, whole.bias->grad, "db");
      return absl::OkStatus();
    });
  }
}

}  // namespace
}  // namespace strake
