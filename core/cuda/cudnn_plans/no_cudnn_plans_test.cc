#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(CudnnPlansTest, NeedCudnnsHeaders) {
  GTEST_SKIP() << "this build has no cuDNN: build with --config=cuda, where cudnn.h is installed";
}

}  // namespace
}  // namespace strake
