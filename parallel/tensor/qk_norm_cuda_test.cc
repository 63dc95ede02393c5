// QkNormLayer on ranks that share a GPU, against one rank in f64 on the CPU.
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/cuda_parity.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/qk_norm.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

using testing::AddPieces;
using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::F32SumTolerance;
using testing::FillConstant;
using testing::FillSmallIntegers;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

constexpr int kRanks = 2;
// Both ranks hold the one key/value head.
constexpr int64_t kTokens = 6, kNumHeads = 4, kNumKvHeads = 1, kHeadDim = 8;
constexpr int64_t kColumns = (kNumHeads + 2 * kNumKvHeads) * kHeadDim;
constexpr double kEps = 1e-2, kOffset = 1;

class QkNormLayerCudaTest : public ::testing::TestWithParam<std::tuple<DType, QkNormKind>> {
 protected:
  DType dtype() const { return std::get<DType>(GetParam()); }
  QkNormKind kind() const { return std::get<QkNormKind>(GetParam()); }
  bool whole() const { return kind() == QkNormKind::kWhole; }

  CudaTestTensor OnGpu(const Tensor& x) const {
    TestTensor rounded(dtype(), x.shape());
    CopyConvert(x, rounded);
    return CudaTestTensor(rounded);
  }
};

// to [1, C] or [N, C] += a rank's part of it.
void AddPart(const WeightShards& shards, const CudaTestTensor& part, int rank, const Tensor& to) {
  const HostCopy host = part.ToHost();
  const Tensor& values = host;
  TestTensor f64(DType::kF64, shards.shard_shape());
  CopyConvert(Tensor(values.raw(), values.dtype(), f64->shape()), f64);
  AddPieces(shards, f64, rank, to);
}

// What all ranks hold.
WeightShards OnEachRank(int64_t columns) {
  return WeightShards::Split({1, columns}, 1, {{"columns", columns}}, 1).value();
}

CudaTestTensor ZeroGradient(int64_t columns) {
  TestTensor zero(DType::kF32, {columns});
  FillConstant(zero, 0);
  return CudaTestTensor(zero);
}

// A row as a vector.
Tensor Vector(const Tensor& row) { return Tensor(row.raw(), row.dtype(), {row.dim(1)}); }

TEST_P(QkNormLayerCudaTest, TwoRanksAreOne) {
  const std::vector<ShardSegment> segments = QkvSegments(kNumHeads, kNumKvHeads, kHeadDim);
  const WeightShards columns =
      WeightShards::Split({kTokens, kColumns}, 1, segments, kRanks).value();
  const int64_t query_columns = whole() ? kNumHeads * kHeadDim : kHeadDim;
  const WeightShards keys = OnEachRank(kHeadDim);
  const WeightShards queries =
      whole() ? WeightShards::Split({1, query_columns}, 1, {segments[0]}, kRanks).value() : keys;
  const auto query_part = [&](int rank) { return whole() ? rank : 0; };

  TestTensor qkv(DType::kF64, {kTokens, kColumns}), dqkv(DType::kF64, {kTokens, kColumns}),
      query(DType::kF64, {1, query_columns}), key(DType::kF64, {1, kHeadDim});
  FillSmallIntegers(qkv, 1);
  FillSmallIntegers(query, 2, /*range=*/2);
  FillSmallIntegers(key, 3, /*range=*/2);
  FillConstant(dqkv, 0);
  std::vector<CudaTestTensor> y, dx, dquery, dkey;  // by rank
  for (int rank = 0; rank < kRanks; ++rank) {
    TestTensor part(DType::kF64, columns.shard_shape());
    columns.Slice(qkv, rank, part);
    y.push_back(OnGpu(part));
    // Of keys and values, a term of the gradient.
    FillSmallIntegers(part, 10 + rank);
    dx.push_back(OnGpu(part));
    AddPieces(columns, part, rank, dqkv);
    dquery.push_back(ZeroGradient(queries.shard_shape()[1]));
    dkey.push_back(ZeroGradient(kHeadDim));
  }
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 1, .cp = 1, .tp = kRanks}, {}, [&](const Mesh& mesh) -> absl::Status {
        CudaTestContext ctx;
        mesh.BindCudaStream(ctx.context().cuda_stream());
        const int rank = mesh.rank();
        TestTensor part(DType::kF64, queries.shard_shape());
        queries.Slice(query, query_part(rank), part);
        const CudaTestTensor query_on_gpu = OnGpu(Vector(part)), key_on_gpu = OnGpu(Vector(key));
        Parameter query_weight, key_weight;
        query_weight.value = query_on_gpu;
        query_weight.grad = dquery[rank];
        key_weight.value = key_on_gpu;
        key_weight.grad = dkey[rank];
        const QkNormLayer layer({kind(), kNumHeads / kRanks, kNumKvHeads, kHeadDim}, &query_weight,
                                &key_weight, kEps, kOffset,
                                TensorParallel(mesh.communicator(MeshAxis::kTp)));
        QkNormSaved saved;
        layer.Allocate(ctx, y[rank], &saved);
        STRAKE_RETURN_IF_ERROR(layer.Forward(ctx, y[rank], &saved));
        STRAKE_RETURN_IF_ERROR(layer.Backward(ctx, saved, dx[rank]));
        return SynchronizeCudaStream(ctx.context().cuda_stream());
      });
  ASSERT_TRUE(status.ok()) << status;

  TestTensor one_dquery(DType::kF64, query->shape()), one_dkey(DType::kF64, key->shape()),
      y_sum(DType::kF64, qkv->shape()), y_expected(DType::kF64, qkv->shape()),
      dqkv_sum(DType::kF64, qkv->shape()), dquery_sum(DType::kF64, query->shape()),
      dkey_sum(DType::kF64, key->shape());
  for (const TestTensor* sum :
       {&one_dquery, &one_dkey, &y_sum, &y_expected, &dqkv_sum, &dquery_sum, &dkey_sum}) {
    FillConstant(*sum, 0);
  }
  const TestContext ctx(OpSet::kReference, 1);
  Parameter query_weight, key_weight;
  query_weight.value = Vector(query);
  query_weight.grad = Vector(one_dquery);
  key_weight.value = Vector(key);
  key_weight.grad = Vector(one_dkey);
  const QkNormLayer one({kind(), kNumHeads, kNumKvHeads, kHeadDim}, &query_weight, &key_weight,
                        kEps, kOffset, TensorParallel());
  QkNormSaved saved;
  one.Allocate(ctx, qkv, &saved);
  ASSERT_TRUE(one.Forward(ctx, qkv, &saved).ok());
  ASSERT_TRUE(one.Backward(ctx, saved, dqkv).ok());
  for (int rank = 0; rank < kRanks; ++rank) {
    // The outputs of keys and values count once for each holder.
    TestTensor part(DType::kF64, columns.shard_shape());
    columns.Slice(qkv, rank, part);
    AddPieces(columns, part, rank, y_expected);
    AddPart(columns, y[rank], rank, y_sum);
    AddPart(columns, dx[rank], rank, dqkv_sum);
    AddPart(queries, dquery[rank], query_part(rank), dquery_sum);
    AddPart(keys, dkey[rank], 0, dkey_sum);
  }
  // Each holder rounds its term of a gradient.
  const double tolerance = F32SumTolerance(query_columns) + 2 * UnitRoundoff(dtype());
  EXPECT_GT(MaxAbs(one_dquery), 0.1);
  EXPECT_GT(MaxAbs(one_dkey), 0.1);
  EXPECT_LE(RelativeError(y_sum, y_expected), tolerance);
  EXPECT_LE(RelativeError(dqkv_sum, dqkv), tolerance);
  EXPECT_LE(RelativeError(dquery_sum, one_dquery), F32SumTolerance(kTokens * kNumHeads));
  EXPECT_LE(RelativeError(dkey_sum, one_dkey), F32SumTolerance(kTokens));
}

INSTANTIATE_TEST_SUITE_P(Kinds, QkNormLayerCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBf16),
                                            ::testing::Values(QkNormKind::kPerHead,
                                                              QkNormKind::kWhole)),
                         [](const auto& info) {
                           return std::string(DTypeName(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) == QkNormKind::kWhole ? "Whole"
                                                                                 : "PerHead");
                         });

}  // namespace
}  // namespace strake
