// Compares the declarations of nccl_library.h with NVIDIA's nccl.h, where that is installed: a
// difference does not compile.
#include <cstddef>
#include <type_traits>

#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_library.h"

#if __has_include(<cuda_runtime.h>) && __has_include(<nccl.h>)
#include <nccl.h>

namespace strake {
namespace {

static_assert(int{ncclSuccess} == int(NcclResult::kSuccess));
static_assert(int{ncclUnhandledCudaError} == int(NcclResult::kUnhandledCudaError));
static_assert(int{ncclSystemError} == int(NcclResult::kSystemError));
static_assert(int{ncclInternalError} == int(NcclResult::kInternalError));
static_assert(int{ncclInvalidArgument} == int(NcclResult::kInvalidArgument));
static_assert(int{ncclInvalidUsage} == int(NcclResult::kInvalidUsage));
static_assert(int{ncclRemoteError} == int(NcclResult::kRemoteError));
static_assert(int{ncclInProgress} == int(NcclResult::kInProgress));

static_assert(int{ncclInt8} == int(NcclType::kInt8));
static_assert(int{ncclInt32} == int(NcclType::kInt32));
static_assert(int{ncclInt64} == int(NcclType::kInt64));
static_assert(int{ncclFloat32} == int(NcclType::kFloat32));
static_assert(int{ncclFloat64} == int(NcclType::kFloat64));
static_assert(int{ncclBfloat16} == int(NcclType::kBfloat16));

static_assert(int{ncclSum} == int(NcclOp::kSum) && int{ncclMax} == int(NcclOp::kMax));

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));

static_assert(offsetof(NcclConfig, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(offsetof(NcclConfig, cga_cluster_size) == offsetof(ncclConfig_t, cgaClusterSize));
static_assert(offsetof(NcclConfig, min_ctas) == offsetof(ncclConfig_t, minCTAs));
static_assert(offsetof(NcclConfig, max_ctas) == offsetof(ncclConfig_t, maxCTAs));
static_assert(offsetof(NcclConfig, net_name) == offsetof(ncclConfig_t, netName));
static_assert(offsetof(NcclConfig, split_share) == offsetof(ncclConfig_t, splitShare));
static_assert(sizeof(NcclConfig) <= sizeof(ncclConfig_t));

// Whether arguments of these types are passed alike.
template <typename A, typename B>
inline constexpr bool kAlike =
    sizeof(A) == sizeof(B) &&
    std::is_pointer_v<A> == std::is_pointer_v<B>&& std::is_class_v<A> == std::is_class_v<B> &&
    !std::is_floating_point_v<A> && !std::is_floating_point_v<B>;

template <typename A, typename... As, typename B, typename... Bs>
constexpr bool CalledAlike(A (*)(As...), B (*)(Bs...)) {
  return sizeof...(As) == sizeof...(Bs) && kAlike<A, B> && (kAlike<As, Bs> && ...);
}

#define EXPECT_CALLED_ALIKE(member, function) \
  static_assert(CalledAlike(decltype(NcclLibrary::member){nullptr}, decltype(&function){nullptr}))
EXPECT_CALLED_ALIKE(get_version, ncclGetVersion);
EXPECT_CALLED_ALIKE(get_unique_id, ncclGetUniqueId);
EXPECT_CALLED_ALIKE(comm_init_rank_config, ncclCommInitRankConfig);
EXPECT_CALLED_ALIKE(comm_split, ncclCommSplit);
EXPECT_CALLED_ALIKE(comm_destroy, ncclCommDestroy);
EXPECT_CALLED_ALIKE(comm_abort, ncclCommAbort);
EXPECT_CALLED_ALIKE(comm_get_async_error, ncclCommGetAsyncError);
EXPECT_CALLED_ALIKE(get_error_string, ncclGetErrorString);
EXPECT_CALLED_ALIKE(get_last_error, ncclGetLastError);
EXPECT_CALLED_ALIKE(group_start, ncclGroupStart);
EXPECT_CALLED_ALIKE(group_end, ncclGroupEnd);
EXPECT_CALLED_ALIKE(all_reduce, ncclAllReduce);
EXPECT_CALLED_ALIKE(reduce, ncclReduce);
EXPECT_CALLED_ALIKE(reduce_scatter, ncclReduceScatter);
EXPECT_CALLED_ALIKE(all_gather, ncclAllGather);
EXPECT_CALLED_ALIKE(broadcast, ncclBroadcast);
EXPECT_CALLED_ALIKE(send, ncclSend);
EXPECT_CALLED_ALIKE(recv, ncclRecv);
#undef EXPECT_CALLED_ALIKE

TEST(NcclHeaderTest, AConfigIsOneThatNcclKnows) {
  const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  const NcclConfig ours;
  EXPECT_EQ(ours.magic, theirs.magic);
  EXPECT_EQ(ours.min_ctas, theirs.minCTAs);
  EXPECT_EQ(ours.split_share, theirs.splitShare);
  // Later versions read fields behind the last of ours, in its padding, unless the config is older
  // than they are.
  EXPECT_LT(ours.version, NCCL_VERSION(2, 25, 0));
}

}  // namespace
}  // namespace strake

#else

TEST(NcclHeaderTest, AConfigIsOneThatNcclKnows) { GTEST_SKIP() << "nccl.h is not installed"; }

#endif
