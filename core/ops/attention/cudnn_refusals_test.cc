// What causal attention does where cuDNN refuses, on the stand-in for cuDNN.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/cudnn_attention.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/cudnn_contract/cudnn_contract.h"
#include "core/testing/emulated_gpu.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaDryRunPeakBytes;
using testing::CudaDryRunTensor;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::CudnnOptions;
using testing::FillNormal;
using ::testing::HasSubstr;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::ScopedCudnnOptions;
using testing::ScopedEmulatedGpu;
using testing::SetCudnnOptions;
using testing::TestContext;
using testing::TestTensor;

constexpr AttentionShape kShape = {2, 160, 4, 2, 64};
const Shape kQkvShape = {kShape.batch * kShape.seq_len,
                         (kShape.num_heads + 2 * kShape.num_kv_heads) * kShape.head_dim};
const Shape kYShape = {kShape.batch * kShape.seq_len, kShape.num_heads* kShape.head_dim};
const Shape kLseShape = {kShape.batch, kShape.num_heads, kShape.seq_len};

// The bounds of cudnn_attention_test.cc. Strake's own kernels round less.
constexpr double kForwardBound = 2 * 0x1p-8, kBackwardBound = 4 * 0x1p-8;

struct Host : TestTensor {
  Host(const Shape& shape, uint64_t seed) : TestTensor(DType::kBf16, shape) {
    FillNormal(*this, seed);
  }
};

struct InF64 : TestTensor {
  explicit InF64(const Tensor& x) : TestTensor(DType::kF64, x.shape()) { CopyConvert(x, *this); }
};

struct Operands {
  absl::Status Forward(const Context& ctx) const {
    return CausalAttentionForward(ctx, qkv, shape, y, lse, documents);
  }
  absl::Status Backward(const Context& ctx) const {
    return CausalAttentionBackward(ctx, dy, qkv, y, lse, shape, dqkv, documents);
  }

  AttentionShape shape = kShape;
  Documents documents = {};
  Host host_qkv{kQkvShape, 1}, host_dy{kYShape, 2};
  CudaTestTensor qkv{host_qkv}, dy{host_dy};
  CudaTestTensor y{DType::kBf16, kYShape}, dqkv{DType::kBf16, kQkvShape};
  CudaTestTensor lse{DType::kF32, kLseShape};
};

// `shape` has the sizes of kShape; without lengths, each sequence is one document.
void ExpectFollowsF64(const Context& ctx, const AttentionShape& shape = kShape,
                      const std::vector<int64_t>& lengths = {kShape.seq_len, kShape.seq_len}) {
  const TestTensor host_positions(DType::kI32, {kShape.batch * kShape.seq_len});
  ASSERT_EQ(SetDocumentPositions(lengths, kShape.seq_len, host_positions), absl::OkStatus());
  const CudaTestTensor positions(host_positions);
  Operands x = {shape};
  if (lengths.size() > kShape.batch) x.documents = {positions, lengths};
  ASSERT_TRUE(x.Forward(ctx).ok());
  ASSERT_TRUE(x.Backward(ctx).ok());
  const InF64 qkv(x.host_qkv), dy(x.host_dy), own_y(x.y.ToHost()), own_dqkv(x.dqkv.ToHost());
  const TestTensor y(DType::kF64, kYShape), dqkv(DType::kF64, kQkvShape);
  const TestTensor lse(DType::kF64, kLseShape);
  const TestContext cpu;
  const Documents documents = {host_positions, lengths};
  ASSERT_TRUE(CausalAttentionForward(cpu, qkv, shape, y, lse, documents).ok());
  ASSERT_TRUE(CausalAttentionBackward(cpu, dy, qkv, y, lse, shape, dqkv, documents).ok());
  EXPECT_LE(RelativeError(own_y, y), kForwardBound);
  EXPECT_LE(RelativeError(own_dqkv, dqkv), kBackwardBound);
  EXPECT_GT(MaxAbs(dqkv), 0.1);
}

class CudnnRefusalsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::Status set = SetCudnnOptions({});
    if (!set.ok()) GTEST_SKIP() << set.message();
  }

  // Attention says why it runs on Strake's own kernels, and does.
  static void ExpectFallback(const CudnnOptions& refusal, const std::string& reason) {
    const ScopedCudnnOptions options(refusal);
    const CudaTestContext ctx;
    const absl::Status status = CausalAttentionHasCudnn(ctx, kShape);
    EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
    EXPECT_THAT(std::string(status.message()), HasSubstr("seq_len 160"));
    EXPECT_EQ(CausalAttentionHasCudnn(ctx, kShape), status);
    ExpectFollowsF64(ctx);
  }
};

TEST_F(CudnnRefusalsTest, NoGpu) { ExpectFallback({.no_gpu = true}, "told to have no GPU"); }

TEST_F(CudnnRefusalsTest, NoEngine) {
  ExpectFallback({.no_engine = true}, "told to have no engine");
}

TEST_F(CudnnRefusalsTest, EnginesThatAreNotDeterministic) {
  ExpectFallback({.not_deterministic = true}, "planning the forward pass");
}

TEST_F(CudnnRefusalsTest, MoreWorkspaceThanPlanned) {
  ExpectFallback({.more_workspace = 4096}, "were planned");
}

TEST_F(CudnnRefusalsTest, PlansThatDoNotCompile) {
  ExpectFallback({.does_not_compile = true}, "told not to compile");
}

TEST_F(CudnnRefusalsTest, SoftCapsAreNotForCudnn) {
  const CudaTestContext ctx;
  AttentionShape shape = kShape;
  shape.window = 40;
  EXPECT_TRUE(CausalAttentionHasCudnn(ctx, shape).ok());
  shape.score_softcap = 2;
  EXPECT_THAT(std::string(CausalAttentionHasCudnn(ctx, shape).message()),
              HasSubstr("not for score_softcap 2"));
  ExpectFollowsF64(ctx, shape);
}

TEST_F(CudnnRefusalsTest, SoftCapsWithDocumentsAreNotForCudnn) {
  const CudaTestContext ctx;
  AttentionShape shape = kShape;
  EXPECT_TRUE(CausalAttentionHasCudnn(ctx, kShape, /*with_documents=*/true).ok());
  shape.score_softcap = 2;
  EXPECT_FALSE(CausalAttentionHasCudnn(ctx, shape, /*with_documents=*/true).ok());
  ExpectFollowsF64(ctx, shape, {40, 120, 159, 1});
}

// cuDNN takes them only for a shape that it was asked about.
TEST_F(CudnnRefusalsTest, EachAnswerIsOfItsOwn) {
  const CudaTestContext ctx;
  {
    const ScopedCudnnOptions options({.more_workspace = 4096});
    EXPECT_FALSE(CausalAttentionHasCudnn(ctx, kShape).ok());
  }
  EXPECT_TRUE(CausalAttentionHasCudnn(ctx, kShape, /*with_documents=*/true).ok());
  EXPECT_FALSE(CausalAttentionHasCudnn(ctx, kShape).ok());
}

// NaN in one document reaches no other's tokens, of any head, nor their gradients.
TEST_F(CudnnRefusalsTest, NothingPassesBetweenDocuments) {
  const CudaTestContext ctx;
  const std::vector<int64_t> lengths = {160, 60, 100};
  const TestTensor host_positions(DType::kI32, {kShape.batch * kShape.seq_len});
  ASSERT_EQ(SetDocumentPositions(lengths, kShape.seq_len, host_positions), absl::OkStatus());
  const CudaTestTensor positions(host_positions);
  const Host host_qkv(kQkvShape, 1);
  const int64_t columns = kQkvShape[1];
  std::fill_n(Tensor(host_qkv).data<Bf16>() + 160 * columns, 60 * columns, Bf16(NAN));
  const CudaTestTensor qkv(host_qkv);
  Operands x;
  x.documents = {positions, lengths};
  ASSERT_TRUE(CausalAttentionForward(ctx, qkv, kShape, x.y, x.lse, x.documents).ok());
  ASSERT_TRUE(
      CausalAttentionBackward(ctx, x.dy, qkv, x.y, x.lse, kShape, x.dqkv, x.documents).ok());
  for (const Tensor& result : {x.y.ToHost(), x.dqkv.ToHost()}) {
    const int64_t row = result.dim(1);
    for (int64_t i = 0; i < result.num_elements(); ++i) {
      const bool inside = i >= 160 * row && i < 220 * row;
      ASSERT_EQ(std::isnan(static_cast<float>(result.data<Bf16>()[i])), inside) << i / row;
    }
  }
}

TEST_F(CudnnRefusalsTest, AnExecutionThatFailsIsAnErrorWithTheShape) {
  const CudaTestContext ctx;
  ASSERT_TRUE(CausalAttentionHasCudnn(ctx, kShape).ok());
  const Operands x;
  const ScopedCudnnOptions options({.does_not_execute = true});
  for (const absl::Status& status : {x.Forward(ctx), x.Backward(ctx)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("seq_len 160"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("told not to execute"));
  }
}

TEST_F(CudnnRefusalsTest, AFaultOnTheDeviceIsALaterCallsError) {
  const ScopedEmulatedGpu gpu({});
  const CudaTestContext ctx;
  ASSERT_TRUE(CausalAttentionHasCudnn(ctx, kShape).ok());
  const Operands x;
  const ScopedCudnnOptions options({.fault_on_the_device = "an illegal address"});
  EXPECT_TRUE(x.Forward(ctx).ok());
  EXPECT_THAT(std::string(SynchronizeCudaStream(Context(ctx).cuda_stream()).message()),
              HasSubstr("an illegal address"));
}

// Addresses, scale and workspace are those of the capture.
TEST_F(CudnnRefusalsTest, AGraphGivesTheBitsOfTheCalls) {
  const CudaTestContext ctx;
  const Operands once, again;
  const auto both = [&](const Operands& x) {
    const absl::Status forward = x.Forward(ctx);
    return forward.ok() ? x.Backward(ctx) : forward;
  };
  ASSERT_TRUE(both(once).ok());
  const CudaStream stream = Context(ctx).cuda_stream();
  const auto graph = CudaGraph::Capture(stream, [&] { return both(again); });
  ASSERT_TRUE(graph.ok()) << graph.status();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(graph->Launch(stream).ok());
    EXPECT_TRUE(SameBits(again.dqkv.ToHost(), once.dqkv.ToHost()));
  }
}

// A graph takes its documents from where they are when it runs: one, as many as were planned (one
// for each 64 tokens), and more, which our own kernels take.
TEST_F(CudnnRefusalsTest, AGraphFollowsTheDocuments) {
  const CudaTestContext ctx;
  const CudaStream stream = Context(ctx).cuda_stream();
  const TestTensor host_positions(DType::kI32, {kShape.batch * kShape.seq_len});
  const CudaTestTensor positions(host_positions);
  const auto set = [&](const std::vector<int64_t>& lengths) {
    ASSERT_EQ(SetDocumentPositions(lengths, kShape.seq_len, host_positions), absl::OkStatus());
    const Tensor from = host_positions, to = positions;
    ASSERT_TRUE(
        CopyToDevice(to.raw(), from.raw(), from.num_elements() * sizeof(int32_t), stream).ok());
    ASSERT_TRUE(SynchronizeCudaStream(stream).ok());
  };
  const auto both = [&](const Operands& x) {
    const absl::Status forward = x.Forward(ctx);
    return forward.ok() ? x.Backward(ctx) : forward;
  };
  const std::vector<int64_t> whole = {160, 160}, planned = {159, 1, 60, 100},
                             more = {1, 159, 9, 9, 142};
  Operands once, again;
  ASSERT_TRUE(CausalAttentionHasCudnn(ctx, kShape, /*with_documents=*/true).ok());
  set(planned);
  again.documents = {positions, planned};
  const auto graph = CudaGraph::Capture(stream, [&] { return both(again); });
  ASSERT_TRUE(graph.ok()) << graph.status();
  for (const auto& lengths : {whole, more, planned}) {
    SCOPED_TRACE(lengths.size());
    set(lengths);
    once.documents = {positions, lengths};
    ASSERT_EQ(both(once), absl::OkStatus());
    ASSERT_TRUE(graph->Launch(stream).ok());
    EXPECT_TRUE(SameBits(again.y.ToHost(), once.y.ToHost()));
    EXPECT_TRUE(SameBits(again.dqkv.ToHost(), once.dqkv.ToHost()));
    ExpectFollowsF64(ctx, kShape, lengths);
  }
}

TEST_F(CudnnRefusalsTest, PlansAreNotMadeDuringACapture) {
  const CudaTestContext ctx;
  const Operands x;
  const auto graph = CudaGraph::Capture(Context(ctx).cuda_stream(), [&] { return x.Forward(ctx); });
  EXPECT_FALSE(graph.ok());
}

size_t PlannedBytes(bool deterministic, bool with_documents = false) {
  return CudaDryRunPeakBytes([&](Context ctx) {
    ctx.set_deterministic(deterministic);
    const Tensor qkv = CudaDryRunTensor(DType::kBf16, {8192, 6144}),
                 y = CudaDryRunTensor(DType::kBf16, {8192, 4096}),
                 lse = CudaDryRunTensor(DType::kF32, {1, 32, 8192});
    const std::vector<int64_t> lengths = {8192};
    Documents documents;
    if (with_documents) documents = {CudaDryRunTensor(DType::kI32, {8192}), lengths};
    ASSERT_TRUE(
        CausalAttentionBackward(ctx, y, qkv, y, lse, {1, 8192, 32, 8, 128}, qkv, documents).ok());
  });
}

// Llama-3-8B's: 4.4 GB of gradients of scores, or 0.4 GB.
TEST_F(CudnnRefusalsTest, TheBackwardPassThatIsNotDeterministicNeedsLessMemory) {
  EXPECT_GT(PlannedBytes(true), size_t{4} << 30);
  EXPECT_LT(PlannedBytes(false), size_t{400} << 20);
}

// The room of one document is that of a sequence, and documents take turns.
TEST_F(CudnnRefusalsTest, DocumentsNeedTheMemoryOfSequences) {
  for (const bool deterministic : {true, false}) {
    const size_t sequences = PlannedBytes(deterministic),
                 documents = PlannedBytes(deterministic, true);
    EXPECT_GT(documents, sequences);
    EXPECT_LT(documents, sequences + (1 << 16));
  }
}

TEST_F(CudnnRefusalsTest, TheBackwardPassThatIsNotDeterministicFollowsF64) {
  CudaTestContext ctx;
  ctx.context().set_deterministic(false);
  // The plan of the other pass would not fit in this one's workspace.
  EXPECT_TRUE(CausalAttentionHasCudnn(ctx, {1, 1024, 1, 1, 64}).ok());
  EXPECT_TRUE(CausalAttentionHasCudnn(ctx, kShape).ok());
  ExpectFollowsF64(ctx);
  EXPECT_TRUE(CausalAttentionHasCudnn(ctx, kShape, /*with_documents=*/true).ok());
  ExpectFollowsF64(ctx, kShape, {40, 120, 160});
}

}  // namespace
}  // namespace strake
