// Engines whose ranks communicate over NCCL, which is the contract library, on the emulated GPU. A
// step that is a CUDA graph gives the bits of one that is enqueued op by op, while ZeRO's weights
// arrive during the forward pass.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/comm/testing/nccl/nccl_ranks.h"
#include "parallel/mesh/mesh.h"
#include "parallel/pipeline/schedule.h"
#include "tests/layout_case.h"
#include "tests/train_layout.h"
#include "train/engine/engine.h"
#include "train/engine/mesh_wide.h"

namespace strake::testing {
namespace {

// A rank's results after some steps.
struct RankState {
  std::vector<double> norms, losses;
  std::string weights;
  bool operator==(const RankState&) const = default;
};

constexpr int kNumSteps = 5;  // a pass is enqueued, recorded, and launched from its third time on

absl::Status Step(const LayoutCase& layout, int step, Engine& engine, RankState* state) {
  const TestTensor tokens(DType::kI32, {layout.micro_batch * layout.kSeqLen / layout.cp});
  for (int m = 0; m < layout.num_micro_batches; ++m) {
    FillTokens(tokens, (step * 8 + m) * 8 + engine.mesh().coordinates().dp, layout.vocab_size);
    STRAKE_RETURN_IF_ERROR(
        engine.AccumulateGradients(tokens, tokens, 0.01, m + 1 == layout.num_micro_batches));
  }
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  STRAKE_ASSIGN_OR_RETURN(const double norm,
                          engine.Update({.lr = 1e-2, .eps = 1e-3, .step = step}, kClipNorm));
  STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine.Agree(/*stop=*/false));
  state->norms.push_back(norm);
  state->losses.push_back(all.loss_sum);
  return absl::OkStatus();
}

// Copies to and from the host wait for the whole GPU, and so for what other ranks have enqueued: no
// rank is in a step then.
absl::Status TrainOnRank(const LayoutCase& layout, bool cuda_graph, Communicator& world,
                         RankState* state) {
  STRAKE_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(layout.Sizes(), world));
  EXPECT_TRUE(mesh.communicator(MeshAxis::kDp).CanBeCaptured());
  EngineOptions options = layout.Options();
  options.cuda_graph = cuda_graph;
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Create(options, mesh));
  SetWeights(engine->team(), &engine->parameters());
  STRAKE_RETURN_IF_ERROR(engine->optimizer().SetMasters());
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh));
  for (int step = 1; step <= kNumSteps; ++step) {
    STRAKE_RETURN_IF_ERROR(Step(layout, step, *engine, state));
  }
  STRAKE_RETURN_IF_ERROR(engine->GatherWeights());
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh));
  STRAKE_ASSIGN_OR_RETURN(const HostCopy weights, HostCopy::Of(engine->parameters().values()));
  state->weights.assign(static_cast<const char*>(weights.tensor().raw()),
                        weights.tensor().num_bytes());
  return MeshBarrier(mesh);
}

std::vector<RankState> Train(const LayoutCase& layout, bool cuda_graph) {
  const int num_ranks = NumRanks(layout.Sizes());
  std::vector<RankState> states(num_ranks);
  RunOnNccl(num_ranks, {.timeout = std::chrono::minutes(1)}, [&](Communicator& world) {
    const absl::Status status = TrainOnRank(layout, cuda_graph, world, &states[world.rank()]);
    EXPECT_TRUE(status.ok()) << status;
  });
  return states;
}

class NcclStepTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(NcclStepTest, AGraphMovesNoBit) {
  const LayoutCase& layout = GetParam();
  const std::vector<RankState> eager = Train(layout, /*cuda_graph=*/false);
  EXPECT_TRUE(Train(layout, /*cuda_graph=*/true) == eager);
  for (const RankState& each : eager) {
    ASSERT_EQ(each.norms.size(), kNumSteps);
    EXPECT_NE(each.norms[0], each.norms[1]);
    EXPECT_EQ(each.norms, eager[0].norms);
    EXPECT_EQ(each.losses, eager[0].losses);
  }
}

std::vector<LayoutCase> Layouts() {
  LayoutCase gpt2 = {.num_heads = 4,
                     .num_kv_heads = 4,
                     .initializer_range = 0.1,
                     .dp = 2,
                     .zero = 1,
                     .micro_batch = 1,
                     .num_micro_batches = 2,
                     .bucket_bytes = 4000,
                     .dtype = DType::kBf16,
                     .device = Device::kCuda};
  LayoutCase reduced = gpt2;
  reduced.zero = 2;
  reduced.reduce_in_bf16 = true;
  LayoutCase llama = gpt2;
  llama.model = "llama";
  llama.tied = false;
  llama.num_kv_heads = 1;
  llama.tp = 2;
  llama.sequence_parallel = true;
  llama.num_micro_batches = 1;
  llama.dtype = DType::kF32;
  // Stages enqueue their steps.
  LayoutCase stages = gpt2;
  stages.pp = 2;
  LayoutCase zero_bubble = stages;
  zero_bubble.schedule = PipelineKind::kZeroBubble;
  zero_bubble.num_micro_batches = 3;
  LayoutCase ring = gpt2;
  ring.dp = 1;
  ring.cp = 2;
  return {gpt2, reduced, llama, stages, zero_bubble, ring};
}

INSTANTIATE_TEST_SUITE_P(Layouts, NcclStepTest, ::testing::ValuesIn(Layouts()),
                         [](const auto& info) { return info.param.ToString(); });

}  // namespace
}  // namespace strake::testing
