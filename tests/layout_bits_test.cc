// The bits of a run depend only on its layout: options that only change when and how ranks
// communicate, or which tensors they keep, change no bit.
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "tests/forwarding_communicator.h"
#include "tests/full_tensors.h"
#include "tests/layout_case.h"
#include "tests/layout_equality.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"

namespace strake::testing {
namespace {

using Bits = std::vector<uint64_t>;

void Append(const std::vector<double>& values, Bits* bits) {
  for (const double value : values) bits->push_back(std::bit_cast<uint64_t>(value));
}

// The bits of all results of a rank: 0 and -0 differ.
Bits BitsOf(const RankRecord& record) {
  Bits bits;
  for (const StepRecord& step : record.steps) {
    Append({step.loss, step.norm}, &bits);
    Append(step.grads, &bits);
  }
  Append({record.evaluation_loss}, &bits);
  Append(record.weights, &bits);
  return bits;
}

std::vector<RankRecord> Train(const LayoutCase& layout, const TrainOptions& options = {}) {
  auto records = TrainLayout(layout, options);
  EXPECT_TRUE(records.ok()) << records.status();
  if (!records.ok()) return {};
  return *std::move(records);
}

void ExpectSameBits(const std::vector<RankRecord>& actual, const std::vector<RankRecord>& expected,
                    const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t rank = 0; rank < actual.size(); ++rank) {
    EXPECT_EQ(actual[rank].ranges, expected[rank].ranges) << what;
    EXPECT_TRUE(BitsOf(actual[rank]) == BitsOf(expected[rank])) << what << ", rank " << rank;
  }
}

// Both dtypes, with parameters and key/value heads that ranks share, under each stage of ZeRO.
std::vector<LayoutCase> Layouts() {
  std::vector<LayoutCase> layouts;
  for (const int zero : {0, 1, 2}) {
    LayoutCase c = {.tp = 2, .dp = 3, .sequence_parallel = true, .zero = zero};
    c.num_micro_batches = 2;
    c.dtype = DType::kF32;
    layouts.push_back(c);
    c.model = "llama";
    c.tied = false;
    c.num_kv_heads = 2;
    c.tp = 4;
    c.dp = 2;
    c.num_threads = 2;
    layouts.push_back(c);
    c.reduce_in_bf16 = true;
    layouts.push_back(c);
    c.reduce_in_bf16 = false;
    c.sequence_parallel = false;
    c.dtype = DType::kF64;
    layouts.push_back(c);
    // Soft caps and windows; norms after the halves and of whole projections; parallel residuals.
    constexpr const char* kModels[] = {"gemma2", "olmo3", "gpt_neox"};
    c.model = kModels[zero];
    if (!FindLayoutModel(c.model).grouped_heads) c.num_kv_heads = 24;
    c.dtype = DType::kF32;
    layouts.push_back(c);
  }
  return layouts;
}

class LayoutBitsTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(LayoutBitsTest, NothingButTheLayoutMovesABit) {
  const LayoutCase& layout = GetParam();
  const std::vector<RankRecord> expected = Train(layout);
  ExpectSameBits(Train(layout), expected, "again");
  ExpectSameBits(Train(layout, {.check = false}), expected, "without check mode");
  LayoutCase waits = layout;
  waits.overlap = false;
  ExpectSameBits(Train(waits), expected, "without overlap");
  for (const auto recompute : {ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
    LayoutCase c = layout;
    c.activation_recompute = recompute;
    ExpectSameBits(Train(c), expected,
                   "recomputation " + std::to_string(static_cast<int>(recompute)));
  }
}

// The bits of whole tensors, by name.
std::map<std::string, Bits> BitsOf(const FullTensors& full) {
  std::map<std::string, Bits> bits;
  for (const auto& [name, entry] : full.entries()) Append(entry.values, &bits[name]);
  return bits;
}

// Expects the same losses, gradients, gradient norms and weights.
void ExpectSameTensors(const LayoutCase& layout, const LayoutCase& expected_layout,
                       const TrainOptions& options = {}) {
  SCOPED_TRACE(layout.ToString() + (layout.overlap ? "" : ", without overlap"));
  const std::vector<RankRecord> actual = Train(layout, options);
  const std::vector<RankRecord> expected = Train(expected_layout, options);
  ASSERT_TRUE(!expected.empty() && !actual.empty());
  for (int step = 1; step <= kNumTrainingSteps; ++step) {
    const StepRecord& mine = actual[0].steps[step - 1];
    const StepRecord& other = expected[0].steps[step - 1];
    EXPECT_EQ(mine.loss, other.loss);
    EXPECT_EQ(mine.norm, other.norm);
    EXPECT_TRUE(BitsOf(JoinGrads(layout, actual, step)) ==
                BitsOf(JoinGrads(expected_layout, expected, step)))
        << step;
  }
  EXPECT_TRUE(BitsOf(JoinWeights(layout, actual)) ==
              BitsOf(JoinWeights(expected_layout, expected)));
}

// The weights are clipped: the norm has the same bits, wherever buckets and their parts are cut.
TEST_P(LayoutBitsTest, BucketsMoveNoBit) {
  const LayoutCase& layout = GetParam();
  for (const int64_t bucket_bytes : {1, 4000, 30000}) {
    for (const bool overlap : {true, false}) {
      LayoutCase c = layout;
      c.bucket_bytes = bucket_bytes;
      c.overlap = overlap;
      ExpectSameTensors(c, layout, {.check = false});
    }
  }
}

// Pipelines: every schedule, with chunks, ZeRO, tensor and sequence parallelism, adapters,
// documents and a number of micro-batches that is no multiple of the stages.
std::vector<LayoutCase> Pipelines() {
  LayoutCase c = {.model = "llama", .tied = false};
  c.num_layers = 4;
  c.dtype = DType::kF32;
  c.pp = 2;
  c.num_micro_batches = 3;
  std::vector<LayoutCase> layouts;
  for (const PipelineKind kind : kPipelineKinds) {
    for (const int zero : {0, 1, 2}) {
      c.schedule = kind;
      c.chunks =
          kind == PipelineKind::kInterleaved || (kind == PipelineKind::kZeroBubble && zero != 1)
              ? 2
              : 1;
      c.zero = zero;
      c.dp = zero == 0 ? 1 : 2;
      c.tp = kind == PipelineKind::kGpipe ? 1 : 2;
      c.sequence_parallel = kind == PipelineKind::k1f1b || kind == PipelineKind::kZeroBubble;
      c.bucket_bytes = zero == 1 ? 4000 : 25 << 20;
      c.activation_recompute = static_cast<ActivationRecompute>(zero);
      layouts.push_back(c);
    }
  }
  c.zero = 0;
  c.tp = c.dp = c.chunks = 1;
  c.sequence_parallel = false;
  c.pp = 4;
  c.num_micro_batches = 6;
  c.documents = DocumentMode::kMask;
  layouts.push_back(c);
  c.in_flight = 6;
  c.documents = DocumentMode::kConcat;
  c.lora_rank = 3;
  layouts.push_back(c);
  c.in_flight = 0;
  // One stage trains nothing, and the other one nothing in its first chunk.
  LayoutCase last_layer = c;
  last_layer.schedule = PipelineKind::kInterleaved;
  last_layer.pp = last_layer.chunks = last_layer.dp = last_layer.zero = 2;
  last_layer.lora_target = "layers.3.mlp.down_proj";
  layouts.push_back(last_layer);
  c.lora_rank = 0;
  c.schedule = PipelineKind::k1f1b;
  c.dtype = DType::kF64;
  c.model = "gpt2";
  c.num_threads = 2;
  layouts.push_back(c);
  c.dtype = DType::kF32;
  c.num_layers = c.pp = 2;
  for (const char* const model : {"gemma2", "gpt_neox"}) {
    c.model = model;
    layouts.push_back(c);
  }
  // The gradient of a tied table is two sums, of the head and of the embedding, for one micro-batch
  // on one rank, too.
  c.tied = true;
  c.num_micro_batches = 1;
  c.tp = 2;
  c.sequence_parallel = true;
  for (const char* const model : {"gemma2", "gpt2"}) {
    c.model = model;
    layouts.push_back(c);
  }
  return layouts;
}

class PipelineBitsTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(PipelineBitsTest, MovesNoBit) {
  LayoutCase one_stage = GetParam();
  one_stage.pp = 1;
  ExpectSameTensors(GetParam(), one_stage);
}

std::string NameOfPipeline(const ::testing::TestParamInfo<LayoutCase>& info) {
  return info.param.ToString();
}

INSTANTIATE_TEST_SUITE_P(Layouts, PipelineBitsTest, ::testing::ValuesIn(Pipelines()),
                         NameOfPipeline);

// All-gathers of data-parallel ranks happen as late as they may, in their wait. Until then the
// other ranks' pieces are NaN.
class LateGatherCommunicator : public ForwardingCommunicator {
 public:
  LateGatherCommunicator(Communicator& inner, std::atomic<int>* num_late)
      : ForwardingCommunicator(inner), num_late_(num_late) {}

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    if (call.kind != CollectiveKind::kAllGather || axis() != "dp") {
      return ForwardingCommunicator::Start(std::move(call));
    }
    ++*num_late_;
    const size_t piece = call.count / size() * DTypeSize(call.dtype);
    for (int other = 0; other < size(); ++other) {
      if (other == rank()) continue;
      std::memset(static_cast<char*>(call.output) + other * piece, 0xFF, piece);
    }
    return [this, call = std::move(call)] { return Forward(call).Wait().status(); };
  }

 private:
  std::atomic<int>* const num_late_;
};

// The forward pass waits for each weight before it reads it.
TEST_P(LayoutBitsTest, NoWeightIsReadBeforeItHasArrived) {
  LayoutCase layout = GetParam();
  layout.bucket_bytes = 1;
  std::atomic<int> num_late = 0;
  const auto wrap = [&](const Mesh& mesh) {
    return WrapGroups(mesh, [&](Communicator& group) {
      return std::make_unique<LateGatherCommunicator>(group, &num_late);
    });
  };
  ExpectSameBits(Train(layout, {.check = false, .wrap = wrap}), Train(layout, {.check = false}),
                 "late");
  EXPECT_EQ(num_late > 0, layout.zero > 0);
}

// ZeRO's stages sum the same gradients in the same order, stage 2 if there is one micro-batch.
TEST_P(LayoutBitsTest, ZeroMovesNoBit) {
  LayoutCase layout = GetParam();
  layout.num_micro_batches = layout.zero == 2 ? 1 : 2;
  layout.bucket_bytes = 4000;
  LayoutCase unsharded = layout;
  unsharded.zero = 0;
  for (const bool check : {true, false}) {
    ExpectSameTensors(layout, unsharded, {.check = check});
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, LayoutBitsTest, ::testing::ValuesIn(Layouts()),
                         [](const auto& info) { return info.param.ToString(); });

}  // namespace
}  // namespace strake::testing
