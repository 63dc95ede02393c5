#include "tools/cli/layout.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/thread_team.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/model_config.h"
#include "parallel/mesh/mesh.h"
#include "tools/cli/peak_rates.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class LayoutTest : public ::testing::Test {
 protected:
  // Clears the variables of a launcher that may have started the tests.
  LayoutTest() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}) unsetenv(name);
  }

  static void StartAsOneOf(const char* size, const char* local_size) {
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    setenv("OMPI_COMM_WORLD_SIZE", size, 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", local_size, 1);
  }
};

TEST_F(LayoutTest, SizesAndRanks) {
  const LayoutConfig layout = {.tp = 4, .pp = 2, .dp = 3};
  EXPECT_EQ(layout.num_ranks(), 24);
  EXPECT_EQ(layout.sizes(), (MeshVector{.dp = 3, .pp = 2, .cp = 1, .tp = 4}));
  EXPECT_EQ(layout.SizesText(), "--tp=4 times --pp=2 times --dp=3");
  EXPECT_EQ((LayoutConfig{.tp = 4, .dp = 3}).SizesText(), "--tp=4 times --dp=3");
}

TEST_F(LayoutTest, CommunicatorsTakeTheFlags) {
  const LayoutConfig layout = {.comm_check = true, .comm_timeout = 2.5};
  EXPECT_EQ(layout.communicator_options().timeout, std::chrono::milliseconds(2500));
  EXPECT_TRUE(layout.communicator_options().check);
}

TEST_F(LayoutTest, RanksThatAreThreadsShareCores) {
  const LayoutConfig layout = {.tp = 4, .dp = 2};
  EXPECT_EQ(RanksAtOnce(layout, /*threads=*/1, /*num_cores=*/16), 8);
  EXPECT_EQ(RanksAtOnce(layout, /*threads=*/2, /*num_cores=*/16), 8);
  EXPECT_EQ(RanksAtOnce(layout, /*threads=*/4, /*num_cores=*/16), 4);
  EXPECT_EQ(RanksAtOnce(layout, /*threads=*/1, /*num_cores=*/2), 2);
  LayoutConfig processes = layout;
  processes.comm = "mpi";
  EXPECT_EQ(RanksAtOnce(processes, /*threads=*/4, /*num_cores=*/2), 8) << "of other machines, too";
}

TEST_F(LayoutTest, ThreadsOfOneProcess) {
  EXPECT_TRUE(CheckProcesses({.tp = 2, .dp = 512}).ok());
  EXPECT_THAT(Message(CheckProcesses({.tp = 3, .dp = 400})),
              AllOf(HasSubstr("--tp=3 times --dp=400 are 1200 ranks"), HasSubstr("--comm=threads"),
                    HasSubstr("at most 1024"), HasSubstr("up to 341"), HasSubstr("--comm=mpi")));
}

TEST_F(LayoutTest, StagesAreRanksToo) {
  EXPECT_THAT(Message(CheckProcesses({.tp = 2, .pp = 4, .dp = 200})),
              AllOf(HasSubstr("--tp=2 times --pp=4 times --dp=200 are 1600 ranks"),
                    HasSubstr("with these --tp and --pp, --dp may be up to 128")));
  EXPECT_THAT(Message(CheckNumProcesses({.tp = 2, .pp = 3, .comm = "mpi"}, 12)),
              AllOf(HasSubstr("--tp=2 times --pp=3 times --dp=1 are 6 ranks, but 12 processes"),
                    HasSubstr("--tp=1 --pp=3 --dp=4, --tp=2 --pp=3 --dp=2, --tp=4 --pp=3 --dp=1")));
  EXPECT_THAT(Message(CheckNumProcesses({.tp = 2, .pp = 3, .comm = "mpi"}, 4)),
              HasSubstr("give --tp=1 --pp=1 --dp=4, --tp=2 --pp=1 --dp=2, --tp=4 --pp=1 --dp=1"));
}

TEST_F(LayoutTest, ContextParallelRanksAreRanksToo) {
  EXPECT_THAT(Message(CheckProcesses({.tp = 2, .cp = 4, .dp = 200})),
              AllOf(HasSubstr("--tp=2 times --cp=4 times --dp=200 are 1600 ranks"),
                    HasSubstr("with these --tp and --cp, --dp may be up to 128")));
  EXPECT_THAT(Message(CheckNumProcesses({.cp = 2, .pp = 3, .comm = "mpi"}, 12)),
              HasSubstr("give --tp=1 --cp=2 --pp=3 --dp=2, --tp=2 --cp=2 --pp=3 --dp=1"));
}

TEST_F(LayoutTest, StagesNameWhatWouldFit) {
  ModelConfig model;
  model.num_layers = 12;
  const auto check = [&](const LayoutConfig& layout) {
    return Message(CheckStages(layout, model, /*num_micro_batches=*/3));
  };
  EXPECT_EQ(check({}), "");
  EXPECT_EQ(check({.pp = 12}), "");
  EXPECT_EQ(check({.pp = 2, .pp_layers = "9,3"}), "");
  EXPECT_EQ(check({.pp = 13}),
            "--pp=13: 12 layers cannot be spread over 13 stages; at most 12 stages have a layer in "
            "each part");
  EXPECT_THAT(check({.pp = 2, .pp_layers = "9,4"}),
              AllOf(HasSubstr("--pp=2 --pp_layers=9,4: "), HasSubstr("13 layers, but the model "
                                                                     "has 12 layers")));
  EXPECT_THAT(check({.pp = 2, .pp_layers = "12,0"}), HasSubstr("--pp_layers=12,0: "));
  EXPECT_EQ(check({.pp = 2, .pp_layers = "9,,3"}),
            "--pp_layers=9,,3: \"\" is no number of layers; give one for each stage, as 9,3");
  EXPECT_THAT(check({.pp_layers = "9,3"}), HasSubstr("--pp_layers=9,3 are the layers"));
  EXPECT_THAT(check({.pp = 4, .pp_schedule = "interleaved", .pp_chunks = 2}),
              AllOf(HasSubstr("--pp=4 --pp_schedule=interleaved --pp_chunks=2: "),
                    HasSubstr("3 are fewer than 4")));
  EXPECT_THAT(check({.pp = 2, .pp_chunks = 2}), HasSubstr("with several it is called interleaved"));
  EXPECT_THAT(check({.pp = 3, .pp_schedule = "zero_bubble", .pp_in_flight = 1}),
              HasSubstr("--pp_in_flight=1: "));
}

TEST_F(LayoutTest, ThreadsUnderALauncherAreAnError) {
  StartAsOneOf("4", "4");
  EXPECT_THAT(
      Message(CheckProcesses({.tp = 4})),
      AllOf(HasSubstr("OMPI_COMM_WORLD_RANK"), HasSubstr("give --comm=mpi, or start it without")));
}

TEST_F(LayoutTest, ProcessesMustBeAsManyAsRanks) {
  StartAsOneOf("6", "6");
  EXPECT_TRUE(CheckProcesses({.tp = 2, .dp = 3, .comm = "mpi"}).ok());
  EXPECT_THAT(Message(CheckProcesses({.tp = 2, .dp = 2, .comm = "mpi"})),
              AllOf(HasSubstr("--tp=2 times --dp=2 are 4 ranks, but 6 processes were started"),
                    HasSubstr("mpirun -np 4"),
                    HasSubstr("--tp=1 --dp=6, --tp=2 --dp=3, --tp=3 --dp=2, --tp=6 --dp=1")));
  // A launcher that does not set the number of processes: MPI knows it.
  setenv("OMPI_COMM_WORLD_SIZE", "", 1);
  EXPECT_TRUE(CheckProcesses({.tp = 2, .dp = 2, .comm = "mpi"}).ok());
  EXPECT_TRUE(CheckNumProcesses({.tp = 2, .dp = 2, .comm = "mpi"}, 4).ok());
  EXPECT_THAT(Message(CheckNumProcesses({.tp = 2, .dp = 2, .comm = "mpi"}, 1)),
              AllOf(HasSubstr("4 ranks, but 1 process was started"), HasSubstr("mpirun -np 4"),
                    HasSubstr("--tp=1 --dp=1")));
}

TEST_F(LayoutTest, MpirunMustNoticeALostMachineBeforeRanksGiveUp) {
  const auto set = [](const char* name, const char* value) {
    setenv(absl::StrCat("OMPI_MCA_", name).c_str(), value, 1);
  };
  const LayoutConfig layout{.tp = 2, .comm = "mpi", .comm_timeout = 31};
  unsetenv("OMPI_MCA_orte_num_nodes");
  unsetenv("OMPI_MCA_oob_tcp_keepalive_time");
  EXPECT_EQ(LostMachineWarning(layout), "");
  set("orte_num_nodes", "1");
  EXPECT_EQ(LostMachineWarning(layout), "");
  set("orte_num_nodes", "2");
  EXPECT_THAT(LostMachineWarning(layout), HasSubstr("--mca oob_tcp_keepalive_time 10 "));
  set("oob_tcp_keepalive_time", "10");
  EXPECT_THAT(LostMachineWarning(layout), HasSubstr("--comm_timeout=31 is not more than the 190 "));
  set("oob_tcp_keepalive_intvl", "5");
  set("oob_tcp_keepalive_probes", "4");
  EXPECT_EQ(LostMachineWarning(layout), "");
  EXPECT_THAT(LostMachineWarning({.tp = 2, .comm = "mpi", .comm_timeout = 30}),
              HasSubstr("--comm_timeout=30 is not more than the 30 seconds "));
}

TEST_F(LayoutTest, CoresAreDividedOverTheRanksOfTheMachine) {
  const int cores = NumUsableCores();
  EXPECT_EQ(ThreadsPerRank({}, 0), cores);
  EXPECT_EQ(ThreadsPerRank({.tp = 2, .dp = 1000}, 0), 1);
  EXPECT_EQ(ThreadsPerRank({.tp = 2, .dp = 1000}, 7), 7);
  EXPECT_EQ(NumLocalRanks({.tp = 2, .dp = 3}), 6);
  // Eight processes on four machines.
  StartAsOneOf("8", "2");
  const LayoutConfig spread = {.tp = 2, .dp = 4, .comm = "mpi"};
  EXPECT_EQ(NumLocalRanks(spread), 2);
  EXPECT_EQ(ThreadsPerRank(spread, 0), std::max(1, cores / 2));
}

TEST_F(LayoutTest, BatchesNameWhatWouldFit) {
  EXPECT_TRUE(CheckBatch({.dp = 3}, 2, 12).ok());
  EXPECT_EQ(Message(CheckBatch({}, 8, 12)),
            "--global_batch=12 is not a multiple of --micro_batch=8; --micro_batch may be 1, 2, 3, "
            "4, 6, 12");
  EXPECT_EQ(Message(CheckBatch({.dp = 2}, 8, 24)),
            "--global_batch=24 is not a multiple of --micro_batch=8 times --dp=2, 16; "
            "--micro_batch may be 1, 2, 3, 4, 6, 12, or --dp may be 1, 3");
  EXPECT_EQ(Message(CheckBatch({.dp = 2}, 2, 5)),
            "--global_batch=5 is not a multiple of --micro_batch=2 times --dp=2, 4; "
            "--global_batch may be 8");
}

TEST_F(LayoutTest, ModelsNameTheSizesThatFit) {
  ModelConfig model;
  model.num_heads = 12;
  model.num_kv_heads = 4;
  model.intermediate_size = 40;
  const auto check = [&](const LayoutConfig& layout, int64_t seq_len) {
    return Message(CheckLayout(layout, model, seq_len));
  };
  for (const int64_t tp : {1, 2, 4}) EXPECT_EQ(check({.tp = tp}, 7), "");
  EXPECT_THAT(check({.tp = 5}, 7),
              AllOf(HasSubstr("12 query heads"), HasSubstr("--tp may be 1, 2, 4")));
  EXPECT_THAT(check({.tp = 3}, 7),
              AllOf(HasSubstr("4 key/value heads"), HasSubstr("--tp may be 1, 2, 4")));
  EXPECT_THAT(check({.tp = 12}, 7),
              AllOf(HasSubstr("40 intermediate"), HasSubstr("--tp may be 1, 2, 4")));
  EXPECT_EQ(check({.tp = 2, .sequence_parallel = true}, 6), "");
  EXPECT_THAT(
      check({.tp = 4, .sequence_parallel = true}, 6),
      AllOf(HasSubstr("--seq_len=6 is not a multiple of --tp=4"), HasSubstr("--tp may be 1, 2")));
  EXPECT_EQ(check({.tp = 2, .cp = 3, .sequence_parallel = true}, 24), "");
  EXPECT_THAT(check({.tp = 4, .cp = 2, .sequence_parallel = true}, 12),
              AllOf(HasSubstr("--seq_len=12 over --cp=2 is not a multiple of --tp=4"),
                    HasSubstr("--tp may be 1, 2")));
  EXPECT_THAT(check({.cp = 4}, 100),
              AllOf(HasSubstr("--seq_len=100 --cp=4: "), HasSubstr("take 96 or 104")));
}

}  // namespace
}  // namespace strake
