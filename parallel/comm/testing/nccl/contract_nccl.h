// NCCL's functions on the emulated GPU (//core/testing:emulated_gpu), for ranks that are threads of
// one process. Ranks in other processes never arrive.
//
// As in NCCL, calls return before the other ranks have arrived, a split writes its communicator
// when all have, kernels wait for each other on their streams, and destroying and aborting wait for
// kernels. Calls that do not match would hang in NCCL; here they end the program. Sums are in rank
// order, each partial sum rounded; a max drops NaN.
#ifndef STRAKE_PARALLEL_COMM_TESTING_FAKE_NCCL_H_
#define STRAKE_PARALLEL_COMM_TESTING_FAKE_NCCL_H_

#include "parallel/comm/nccl/nccl_library.h"

namespace strake::testing {

const NcclLibrary& FakeNccl();

// Sets what ncclCommGetAsyncError() reports from now on, for every communicator.
void SetFakeNcclAsyncError(NcclResult result);

// With true, later communicators are ready without the other ranks.
void LetFakeNcclStartAlone(bool alone);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_FAKE_NCCL_H_
