#include "parallel/pipeline/stage_links.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/device/op_call.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kElements = 5;
using Buffer = std::array<int32_t, kElements>;

Tensor TensorOf(Buffer& buffer) { return Tensor(buffer.data(), DType::kI32, {kElements}); }

// Names the part that makes it and the micro-batch.
Buffer ContentOf(PipelinePass pass, int part, int micro_batch) {
  Buffer content;
  for (int i = 0; i < kElements; ++i) {
    content[i] = ((static_cast<int>(pass) * 100 + part) * 100 + micro_batch) * 100 + i;
  }
  return content;
}

// The most passes of a chunk that are in flight.
int RegionsOf(const std::vector<PipelineAction>& actions, int chunk) {
  int now = 0, most = 0;
  for (const PipelineAction& action : actions) {
    if (action.chunk != chunk) continue;
    if (action.pass == PipelinePass::kForward) most = std::max(most, ++now);
    if (action.pass == PipelinePass::kWeightGradient) --now;
  }
  return most;
}

absl::Status Walk(Communicator& pp, const PipelineShape& shape) {
  STRAKE_ASSIGN_OR_RETURN(StageLinks links, StageLinks::Create(pp, shape.chunks));
  const int stage = pp.rank();
  const std::vector<PipelineAction> actions = PipelineActions(shape, stage);
  struct Region {
    std::array<Buffer, 2> buffers;
    std::vector<Pending<Tensor>> sent;
  };
  std::map<std::pair<int, int>, Region> regions;
  std::array<int64_t, 2> num_sent{}, num_received{};
  for (const PipelineAction& action : actions) {
    if (action.pass == PipelinePass::kWeightGradient) continue;
    const int pass = static_cast<int>(action.pass);
    const int part = PipelinePart(shape, stage, action.chunk);
    Region& region =
        regions[{action.chunk, action.micro_batch % (RegionsOf(actions, action.chunk) + 1)}];
    if (PipelineSource(shape, stage, action)) {
      Buffer got{};
      STRAKE_RETURN_IF_ERROR(links.Receive(action.pass, TensorOf(got)).Wait().status());
      const int from = action.pass == PipelinePass::kForward ? part - 1 : part + 1;
      EXPECT_EQ(got, ContentOf(action.pass, from, action.micro_batch));
      ++num_received[pass];
    }
    if (action.pass == PipelinePass::kForward) {
      for (auto& sent : region.sent) STRAKE_RETURN_IF_ERROR(sent.Wait().status());
      region.sent.clear();
    }
    if (PipelineTarget(shape, stage, action)) {
      region.buffers[pass] = ContentOf(action.pass, part, action.micro_batch);
      region.sent.push_back(links.Send(action.pass, TensorOf(region.buffers[pass])));
      ++num_sent[pass];
    }
  }
  for (auto& [key, region] : regions) {
    for (auto& sent : region.sent) STRAKE_RETURN_IF_ERROR(sent.Wait().status());
  }
  int64_t sends = 0, bytes = 0, receives = 0;
  for (const Communicator* group : links.communicators()) {
    EXPECT_EQ(group->size(), 2);
    EXPECT_EQ(group->stats_axis(), "pp");
    sends += group->stats()[CollectiveKind::kSend].calls;
    bytes += group->stats()[CollectiveKind::kSend].bytes;
    receives += group->stats()[CollectiveKind::kRecv].calls;
  }
  // Activations of all parts but the last, and gradients of all but the first.
  const int parts = shape.stages == 1 ? 0 : shape.chunks;
  const int64_t ends = (stage == 0) + (stage == shape.stages - 1);
  const int64_t messages = shape.stages == 1 ? 0 : shape.micro_batches * (2 * parts - ends);
  EXPECT_EQ(sends, messages);
  EXPECT_EQ(receives, messages);
  EXPECT_EQ(bytes, messages * int64_t{sizeof(Buffer)});
  EXPECT_EQ(num_sent[0] + num_sent[1], messages);
  EXPECT_EQ(num_received[0] + num_received[1], messages);
  return absl::OkStatus();
}

TEST(StageLinksTest, CarryEverySchedule) {
  for (const PipelineKind kind : kPipelineKinds) {
    for (const int stages : {1, 2, 3, 4, 5}) {
      for (const int chunks : {1, 2, 3}) {
        for (const int m : {stages, 7}) {
          const PipelineShape shape = {kind, stages, chunks, m};
          if (!CheckPipelineShape(shape).ok()) continue;
          SCOPED_TRACE(absl::StrCat(PipelineKindName(kind), ", ", stages, " stages, ", chunks,
                                    " chunks, ", m, " micro-batches"));
          EXPECT_EQ(RunOnThreads({1, stages, 1, 1}, {.timeout = std::chrono::minutes(1)},
                                 [&](const Mesh& mesh) {
                                   return Walk(mesh.communicator(MeshAxis::kPp), shape);
                                 }),
                    absl::OkStatus());
        }
      }
    }
  }
}

// Stage 1 does nothing beyond the timeout of the others.
absl::Status WithoutStage1(const std::function<Pending<Tensor>(StageLinks&, const Tensor&)>& call,
                           int caller) {
  return RunOnThreads({1, 3, 1, 1}, {.timeout = std::chrono::milliseconds(300)},
                      [&](const Mesh& mesh) -> absl::Status {
                        Communicator& pp = mesh.communicator(MeshAxis::kPp);
                        STRAKE_ASSIGN_OR_RETURN(StageLinks links, StageLinks::Create(pp, 1));
                        Buffer buffer{};
                        if (pp.rank() == caller)
                          return call(links, TensorOf(buffer)).Wait().status();
                        std::this_thread::sleep_for(std::chrono::milliseconds(1000));
                        return absl::OkStatus();
                      });
}

TEST(StageLinksTest, AStageThatStopsIsNamed) {
  const absl::Status sent = WithoutStage1(
      [](StageLinks& links, const Tensor& x) { return links.Send(PipelinePass::kForward, x); }, 0);
  EXPECT_EQ(sent.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(sent.message()),
              AllOf(HasSubstr("[send #0, axis pp 0->1, rank 0 of 2] rank 1 of axis pp 0->1 did not "
                              "join within 300 ms"),
                    HasSubstr("stage_links_test.cc:")));
  const absl::Status received = WithoutStage1(
      [](StageLinks& links, const Tensor& y) { return links.Receive(PipelinePass::kForward, y); },
      2);
  EXPECT_THAT(
      std::string(received.message()),
      HasSubstr("[recv #0, axis pp 1->2, rank 1 of 2] rank 0 of axis pp 1->2 did not join"));
}

TEST(StageLinksTest, AStageThatFailsEndsTheOthers) {
  std::array<absl::Status, 3> ends;
  const absl::Status status = RunOnThreads(
      {1, 3, 1, 1}, {.timeout = std::chrono::minutes(1)}, [&](const Mesh& mesh) -> absl::Status {
        Communicator& pp = mesh.communicator(MeshAxis::kPp);
        STRAKE_ASSIGN_OR_RETURN(StageLinks links, StageLinks::Create(pp, 1));
        if (pp.rank() == 1) {
          pp.Abort(absl::DataLossError("a torn page"));
          return absl::OkStatus();
        }
        Buffer buffer{};
        auto pending = pp.rank() == 0 ? links.Send(PipelinePass::kForward, TensorOf(buffer))
                                      : links.Receive(PipelinePass::kForward, TensorOf(buffer));
        return ends[pp.rank()] = pending.Wait().status();
      });
  for (const int rank : {0, 2}) {
    EXPECT_EQ(ends[rank].code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(ends[rank].message()),
                HasSubstr("rank 1 of axis pp aborted: a torn page"));
  }
}

TEST(StageLinksTest, DryRunsRecordTheirMessages) {
  OpRecorder recorder;
  const Mesh mesh = Mesh::DryRun({1, 3, 1, 1}, 1, &recorder);
  auto links = StageLinks::Create(mesh.communicator(MeshAxis::kPp), 2);
  ASSERT_TRUE(links.ok()) << links.status();
  const Tensor x(nullptr, DType::kF32, {6});
  ASSERT_TRUE(links->Receive(PipelinePass::kForward, x).Wait().ok());
  ASSERT_TRUE(links->Send(PipelinePass::kInputGradient, x).Wait().ok());
  ASSERT_EQ(recorder.calls().size(), 2);
  EXPECT_EQ(recorder.calls()[0].op, std::string("recv"));
  EXPECT_EQ(recorder.calls()[1].op, std::string("send"));
  for (const OpCall& call : recorder.calls()) {
    EXPECT_EQ(call.axis, "pp");
    EXPECT_EQ(call.num_ranks, 2);
    EXPECT_EQ(call.cost.bytes, 24);
  }
}

}  // namespace
}  // namespace strake
