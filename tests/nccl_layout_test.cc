// Whole training steps over NCCL, as CUDA graphs, with an emulated GPU per rank. The contract NCCL
// sums in rank order, so the bits are those of ranks that are threads, whose steps are no graphs.
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "core/testing/emulated_gpu.h"
#include "gtest/gtest.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"
#include "parallel/comm/testing/nccl/nccl_ranks.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/mesh.h"
#include "parallel/pipeline/schedule.h"
#include "tests/layout_case.h"
#include "tests/train_layout.h"

namespace strake::testing {
namespace {

LayoutCase Layout(int dp, int tp, bool sequence_parallel, int zero, int num_micro_batches,
                  DocumentMode documents = DocumentMode::kConcat) {
  return {.num_heads = 4,
          .num_kv_heads = 4,
          .documents = documents,
          .tp = tp,
          .dp = dp,
          .sequence_parallel = sequence_parallel,
          .zero = zero,
          .micro_batch = 1,
          .num_micro_batches = num_micro_batches,
          .bucket_bytes = 4 << 10,  // several
          .dtype = DType::kF32,
          .device = Device::kCuda};
}

// A tied table is on both stages.
LayoutCase InStages(LayoutCase layout, PipelineKind schedule) {
  layout.pp = 2;
  layout.schedule = schedule;
  return layout;
}

LayoutCase Sharing(LayoutCase layout, ContextComm comm) {
  layout.cp = 2;
  layout.cp_comm = comm;
  return layout;
}

std::vector<RankRecord> TrainOverNccl(LayoutCase layout) {
  layout.gpu_per_rank = true;
  std::vector<RankRecord> records(NumRanks(layout.Sizes()));
  RunOnNccl(NumRanks(layout.Sizes()), {.timeout = std::chrono::minutes(1)},
            [&](Communicator& world) {
              const auto mesh = Mesh::Create(layout.Sizes(), world);
              ASSERT_TRUE(mesh.ok()) << mesh.status();
              auto record = TrainOnRank(layout, {}, *mesh);
              ASSERT_TRUE(record.ok()) << record.status();
              records[world.rank()] = *std::move(record);
            });
  return records;
}

class NcclLayoutTest : public ::testing::TestWithParam<LayoutCase> {
 private:
  ScopedEmulatedGpu gpus_{{.num_devices = 4}};
};

INSTANTIATE_TEST_SUITE_P(Layouts, NcclLayoutTest,
                         ::testing::Values(Layout(2, 1, false, 0, 2, DocumentMode::kMask),
                                           Layout(1, 2, true, 0, 1), Layout(2, 2, false, 1, 1),
                                           Layout(3, 1, false, 2, 2, DocumentMode::kPad),
                                           InStages(Layout(2, 1, false, 1, 3), PipelineKind::k1f1b),
                                           InStages(Layout(2, 1, false, 1, 3, DocumentMode::kMask),
                                                    PipelineKind::kZeroBubble),
                                           Sharing(Layout(1, 1, false, 1, 2), ContextComm::kRing),
                                           Sharing(Layout(1, 1, false, 0, 1, DocumentMode::kMask),
                                                   ContextComm::kAllGather)),
                         [](const auto& info) { return info.param.ToString(); });

TEST_P(NcclLayoutTest, GraphsGiveTheBitsOfThreads) {
  const auto expected = TrainLayout(GetParam());
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_TRUE(TrainOverNccl(GetParam()) == *expected);
  const ScopedNcclBehavior behavior({.polls_in_progress = 2, .own_thread = true});
  EXPECT_TRUE(TrainOverNccl(GetParam()) == *expected) << "on a thread of NCCL's own";
}

}  // namespace
}  // namespace strake::testing
