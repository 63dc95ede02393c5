#include "core/ops/attention/causal_attention.h"
#include "core/testing/cuda_test_context.h"
#include "core/testing/cudnn_contract/cudnn_contract.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::CudaTestContext;
using ::testing::EndsWith;
using testing::SetCudnnOptions;

TEST(OldCudnnTest, IsNamedWithWhatIsNeeded) {
  const absl::Status set = SetCudnnOptions({.version = 91702});
  if (!set.ok()) GTEST_SKIP() << set.message();
  const CudaTestContext ctx;
  const absl::Status status = CausalAttentionHasCudnn(ctx, {1, 64, 1, 1, 64});
  EXPECT_THAT(std::string(status.message()),
              EndsWith("libcudnn.so.9 is too old: 9.18 or newer is needed"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace strake
