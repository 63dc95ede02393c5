#include "core/cuda/kernel_list.h"

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/no_cuda.h"
#include "core/cuda/stream.h"
#include "gtest/gtest.h"

namespace strake::listed {

template <typename T>
struct TypedArgs {
  T value;
};
// Only declared, as in NAME_cuda.h.
template <typename T>
absl::Status Typed(CudaStream stream, const TypedArgs<T>& args);

struct PlainArgs {
  int value;
};
absl::Status Plain(CudaStream stream, const PlainArgs& args);

#define STRAKE_LISTED_KERNELS(KERNEL) KERNEL(Typed, float, Bf16) KERNEL(Plain)
STRAKE_LISTED_KERNELS(STRAKE_ABSENT_KERNEL)

}  // namespace strake::listed

namespace strake {
namespace {

TEST(KernelListTest, AbsentKernelsReturnNoCuda) {
  EXPECT_EQ(listed::Typed<float>(nullptr, {.value = 1}), NoCuda());
  EXPECT_EQ(listed::Typed<Bf16>(nullptr, {.value = Bf16(1.0f)}), NoCuda());
  EXPECT_EQ(listed::Plain(nullptr, {.value = 1}), NoCuda());
}

}  // namespace
}  // namespace strake
