// NCCL's functions on the emulated GPU (//core/testing:emulated_gpu), for ranks that are threads of
// one process; in several processes, the ranks of others never come.
//
// As NCCL does, calls return before the others have come, a split's communicator is written when
// all have, kernels wait for each other on their streams, destroying and aborting wait for kernels,
// and calls that do not fit end nowhere: here, the program. Sums are in rank order, each
// partial sum rounded; a max drops NaN.
#ifndef STRAKE_PARALLEL_COMM_TESTING_FAKE_NCCL_H_
#define STRAKE_PARALLEL_COMM_TESTING_FAKE_NCCL_H_

#include "parallel/comm/nccl/nccl_library.h"

namespace strake::testing {

const NcclLibrary& FakeNccl();

// What ncclCommGetAsyncError() reports from now on, of every communicator.
void SetFakeNcclAsyncError(NcclResult result);

// With true, communicators of the future are there without the other ranks.
void LetFakeNcclStartAlone(bool alone);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_FAKE_NCCL_H_
