// One call of a collective, a send or a recv, of the contract NCCL.
#ifndef STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_CALL_H_
#define STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_CALL_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "parallel/comm/nccl/nccl_library.h"

namespace strake::testing {

enum class NcclFunction {
  kAllReduce,
  kReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kSend,
  kRecv
};

struct NcclCall {
  NcclFunction function;
  const void* input;
  void* output;
  size_t count;  // as the function's argument has it
  NcclType type;
  NcclOp op = NcclOp::kSum;
  int peer = -1;          // or the root
  bool captured = false;  // into a graph

  bool is_message() const {
    return function == NcclFunction::kSend || function == NcclFunction::kRecv;
  }
};

const char* NcclFunctionName(NcclFunction function);
size_t NcclTypeBytes(NcclType type);

// "ncclBroadcast of 9 ncclInt8, root 2, captured into a graph".
std::string ToString(const NcclCall& call);

// True if two ranks with these calls are in the same collective.
bool SameCollective(const NcclCall& a, const NcclCall& b);

// An error unless a rank of a communicator of `size` ranks on `device` may make the call.
absl::Status CheckNcclCall(const NcclCall& call, int rank, int size, int device);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_CALL_H_
