#include <string>

#include "core/testing/emulated_gpu.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "train/plan/memory_plan.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

// Ranks on other GPUs are connected by NCCL, whose buffers count for each axis.
TEST(CheckMemoryTest, CountsWhatNcclHolds) {
  const testing::ScopedEmulatedGpu gpu({.memory_bytes = size_t{600} << 20});
  EngineOptions options;
  options.model = *ModelPreset("llama-tiny");
  options.seq_len = 8;
  options.micro_batch = 1;
  options.device = Device::kCuda;
  EXPECT_TRUE(CheckMemory(options, {1, 1, 1, 1}, 1).ok());
  EXPECT_TRUE(CheckMemory(options, {2, 1, 1, 2}, 4).ok());
  // A communicator of 2 ranks holds 24 * (512 KiB + 4800 KiB + 4 MiB) = 220.5 MiB, a larger one
  // twice that; cuBLASLt's workspace has 32 MiB.
  EXPECT_TRUE(CheckMemory(options, {2, 1, 1, 2}, 1).ok());
  EXPECT_TRUE(CheckMemory(options, {8, 1, 1, 1}, 1).ok());
  const absl::Status status = CheckMemory(options, {8, 1, 1, 2}, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr(", libraries 693.5 MiB"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(" but 600.0 MiB are free"));

  // The second of three stages has a group for each direction of two links, besides that of all
  // three: 6 * 220.5 MiB.
  options.model.num_layers = 3;
  options.pipeline.micro_batches = 3;
  const absl::Status staged = CheckMemory(options, {1, 3, 1, 1}, 1);
  EXPECT_THAT(std::string(staged.message()), HasSubstr("(the most in stage 1 of 3: weights "));
  EXPECT_THAT(std::string(staged.message()), HasSubstr(", libraries 1.32 GiB)"));
}

}  // namespace
}  // namespace strake
