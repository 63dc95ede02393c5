#include "parallel/comm/launch_environment.h"

#include <cstdlib>

#include "gtest/gtest.h"

namespace strake {
namespace {

class LaunchEnvironmentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
                             "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "RANK",
                             "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}) {
      unsetenv(name);
    }
  }
};

TEST_F(LaunchEnvironmentTest, NothingWhenStartedAlone) {
  EXPECT_FALSE(DetectLaunchEnvironment());
  setenv("SLURM_PROCID", "0", 1);  // a batch script
  EXPECT_FALSE(DetectLaunchEnvironment());
  setenv("PMI_RANK", "", 1);
  EXPECT_FALSE(DetectLaunchEnvironment());
}

TEST_F(LaunchEnvironmentTest, Mpirun) {
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  setenv("PMIX_RANK", "3", 1);
  const auto launched = DetectLaunchEnvironment();
  ASSERT_TRUE(launched);
  EXPECT_EQ(launched->variable, "OMPI_COMM_WORLD_RANK");
  EXPECT_EQ(launched->rank, 3);
  EXPECT_EQ(launched->size, 4);
}

TEST_F(LaunchEnvironmentTest, PmixSaysNoSize) {
  setenv("PMIX_RANK", "1", 1);
  const auto launched = DetectLaunchEnvironment();
  ASSERT_TRUE(launched);
  EXPECT_EQ(launched->rank, 1);
  EXPECT_EQ(launched->size, 0);
  setenv("SLURM_STEP_NUM_TASKS", "8", 1);
  EXPECT_EQ(DetectLaunchEnvironment()->size, 8);
}

TEST_F(LaunchEnvironmentTest, Torchrun) {
  setenv("RANK", "5", 1);
  EXPECT_FALSE(DetectLaunchEnvironment());
  setenv("WORLD_SIZE", "8", 1);
  const auto launched = DetectLaunchEnvironment();
  ASSERT_TRUE(launched);
  EXPECT_FALSE(launched->mpi);
  EXPECT_EQ(launched->rank, 5);
  EXPECT_EQ(launched->size, 8);
  EXPECT_EQ(launched->local_rank, 5);
  setenv("LOCAL_RANK", "1", 1);
  setenv("LOCAL_WORLD_SIZE", "4", 1);
  EXPECT_EQ(DetectLaunchEnvironment()->local_rank, 1);
  EXPECT_EQ(DetectLaunchEnvironment()->local_size, 4);
  setenv("PMI_RANK", "2", 1);
  EXPECT_TRUE(DetectLaunchEnvironment()->mpi);
}

}  // namespace
}  // namespace strake
