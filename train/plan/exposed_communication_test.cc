// Steps of a few calls, whose waits are counted by hand.
#include "train/plan/exposed_communication.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

// A list of calls with their seconds. The link moves a byte per second.
class ExposedCommunicationTest : public ::testing::Test {
 protected:
  void Kernel(const char* op, Pass pass, double seconds) {
    calls_.push_back({.op = op, .pass = pass});
    seconds_.emplace_back(seconds);
  }

  void WeightGradient(double seconds) {
    OpCall call = {.op = "matmul", .pass = Pass::kBackward};
    call.Out("c", Tensor(nullptr, DType::kF32, {1, 1}));
    calls_.push_back(call);
    seconds_.emplace_back(seconds);
  }

  // Among two ranks: a reduce-scatter or a gather takes half a second per byte.
  void Collective(const char* op, Pass pass, const char* axis, const char* layer, double bytes) {
    calls_.push_back({.op = op,
                      .pass = pass,
                      .cost = {.bytes = bytes},
                      .layer = layer,
                      .axis = axis,
                      .num_ranks = 2});
    seconds_.emplace_back(0);
  }

  CommunicationTime Time() {
    const GpuRates rates = GpuRates::H200()
                               .With(GpuRate::kLink, 1)
                               .With(GpuRate::kLinkLatency, 0)
                               .With(GpuRate::kContention, 0.25);
    const auto time = TimeCommunication(calls_, seconds_, rates);
    EXPECT_TRUE(time.ok()) << time.status();
    return *time;
  }

  std::vector<OpCall> calls_;
  std::vector<Forecast> seconds_;
};

TEST_F(ExposedCommunicationTest, TheBackwardPassHidesGradients) {
  Kernel("gelu", Pass::kBackward, 10);
  Collective("reduce_scatter_sum", Pass::kBackward, "dp", "gradients", 8);   // from 10 to 14
  Kernel("gelu", Pass::kBackward, 3);                                        // to 13
  Collective("reduce_scatter_sum", Pass::kBackward, "dp", "gradients", 12);  // from 14 to 20
  Kernel("gelu", Pass::kBackward, 4);                                        // to 17
  Kernel("adamw", Pass::kOptimizer, 5);
  const CommunicationTime time = Time();
  EXPECT_EQ(time.num_collectives, 2);
  EXPECT_EQ(time.total, Forecast(10));
  EXPECT_EQ(time.exposed, Forecast(3));
  EXPECT_EQ(time.slowdown, Forecast(0.25 * 7));
}

TEST_F(ExposedCommunicationTest, AnAllReduceIsTwoRounds) {
  Collective("all_reduce_sum", Pass::kForward, "tp", "mlp", 8);
  EXPECT_EQ(Time().exposed, Forecast(8));
}

TEST_F(ExposedCommunicationTest, RepetitionsCount) {
  Collective("all_gather", Pass::kForward, "tp", "mlp", 8);
  calls_.back().times = 3;
  EXPECT_EQ(Time().num_collectives, 3);
  EXPECT_EQ(Time().exposed, Forecast(12));
}

TEST_F(ExposedCommunicationTest, AWeightsGradientHidesTheReductionBesideIt) {
  Kernel("gelu", Pass::kForward, 1);
  Collective("all_reduce_sum", Pass::kBackward, "tp", "mlp", 6);
  WeightGradient(4);
  Kernel("gelu", Pass::kBackward, 100);
  EXPECT_EQ(Time().exposed, Forecast(2));
}

TEST_F(ExposedCommunicationTest, NothingHidesAGatherThatTheNextKernelReads) {
  Kernel("gelu", Pass::kBackward, 10);
  Collective("all_gather", Pass::kBackward, "tp", "mlp", 6);
  WeightGradient(4);
  EXPECT_EQ(Time().exposed, Forecast(3));
}

TEST_F(ExposedCommunicationTest, TheNextForwardPassMayHideWeights) {
  Kernel("gelu", Pass::kForward, 5);
  Kernel("gelu", Pass::kBackward, 10);
  Kernel("adamw", Pass::kOptimizer, 1);
  Collective("all_gather", Pass::kOptimizer, "dp", "weights", 14);
  EXPECT_EQ(Time().exposed, Forecast(2));
}

TEST_F(ExposedCommunicationTest, AGroupOfOneRankIsFree) {
  Collective("all_gather", Pass::kForward, "tp", "mlp", 6);
  calls_.back().num_ranks = 1;
  EXPECT_EQ(Time().num_collectives, 0);
  EXPECT_EQ(Time().total, Forecast(0));
}

TEST_F(ExposedCommunicationTest, NvlinkConnectsEight) {
  Collective("all_gather", Pass::kForward, "tp", "mlp", 6);
  calls_.back().num_ranks = 16;
  const auto time = TimeCommunication(calls_, seconds_, GpuRates::H200());
  EXPECT_EQ(time.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(time.status().message()), HasSubstr("a group of 16 ranks"));
}

}  // namespace
}  // namespace strake
