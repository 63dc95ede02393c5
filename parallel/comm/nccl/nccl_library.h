// NCCL, loaded when the first group of GPUs is made; compiling needs none of its headers.
//
// The declarations are the part of NCCL's public C interface that is used here (nccl.h of 2.18 to
// 2.28, its values and layouts).
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_LIBRARY_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_LIBRARY_H_

#include <climits>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/cuda/stream.h"

struct ncclComm;

namespace strake {

using NcclComm = ncclComm*;

enum class NcclResult : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

enum class NcclType : int {
  kInt8 = 0,
  kInt32 = 2,
  kInt64 = 4,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9
};
enum class NcclOp : int { kSum = 0, kMax = 2 };

struct NcclUniqueId {
  char bytes[128];
};

// ncclConfig_t as in version 2.18; later versions recognize the shorter struct by its size.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 21800;
  int blocking = 0;                // calls return at once, so a missing peer hangs nobody
  int cga_cluster_size = INT_MIN;  // the library chooses, as for the rest
  int min_ctas = INT_MIN;
  int max_ctas = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN;
};

// The library's functions.
struct NcclLibrary {
  NcclResult (*get_version)(int* version);
  NcclResult (*get_unique_id)(NcclUniqueId* id);
  NcclResult (*comm_init_rank_config)(NcclComm* comm, int size, NcclUniqueId id, int rank,
                                      NcclConfig* config);
  NcclResult (*comm_split)(NcclComm comm, int color, int key, NcclComm* part, NcclConfig* config);
  NcclResult (*comm_destroy)(NcclComm comm);
  NcclResult (*comm_abort)(NcclComm comm);
  NcclResult (*comm_get_async_error)(NcclComm comm, NcclResult* error);
  const char* (*get_error_string)(NcclResult result);
  const char* (*get_last_error)(NcclComm comm);
  NcclResult (*group_start)();
  NcclResult (*group_end)();
  NcclResult (*all_reduce)(const void* input, void* output, size_t count, NcclType type, NcclOp op,
                           NcclComm comm, CudaStream stream);
  NcclResult (*reduce)(const void* input, void* output, size_t count, NcclType type, NcclOp op,
                       int root, NcclComm comm, CudaStream stream);
  NcclResult (*reduce_scatter)(const void* input, void* output, size_t output_count, NcclType type,
                               NcclOp op, NcclComm comm, CudaStream stream);
  NcclResult (*all_gather)(const void* input, void* output, size_t input_count, NcclType type,
                           NcclComm comm, CudaStream stream);
  NcclResult (*broadcast)(const void* input, void* output, size_t count, NcclType type, int root,
                          NcclComm comm, CudaStream stream);
  NcclResult (*send)(const void* input, size_t count, NcclType type, int peer, NcclComm comm,
                     CudaStream stream);
  NcclResult (*recv)(void* output, size_t count, NcclType type, int peer, NcclComm comm,
                     CudaStream stream);
};

// Loads libnccl.so.2, once per process, as the loader finds it: LD_LIBRARY_PATH may name a folder
// in a PyTorch installation. NotFound when it cannot be loaded; FailedPrecondition for a version
// before 2.18, the first with ncclCommSplit (non-blocking calls came with 2.14).
absl::StatusOr<const NcclLibrary*> LoadNccl();

// Ok for a supported version (22809 is 2.28.9), else an error that names the library.
absl::Status CheckNcclVersion(int version, absl::string_view path);

// Ok for kSuccess and kInProgress; else an error with the call's name, NCCL's text, and its last
// warning, if any. `comm` may be null.
absl::Status NcclStatus(const NcclLibrary& nccl, NcclResult result, absl::string_view call,
                        NcclComm comm);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_LIBRARY_H_
