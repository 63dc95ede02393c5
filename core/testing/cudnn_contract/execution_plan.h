// Engines, plans and their execution in the stand-in for cuDNN.
#ifndef STRAKE_CORE_TESTING_CUDNN_CONTRACT_EXECUTION_PLAN_H_
#define STRAKE_CORE_TESTING_CUDNN_CONTRACT_EXECUTION_PLAN_H_

#include "core/cuda/stream.h"
#include "core/testing/cudnn_contract/cudnn_options.h"
#include "core/testing/cudnn_contract/descriptor.h"

namespace strake::testing {

// Checks what belongs to a complete descriptor of its type, and computes its results. Throws a
// CudnnError if something is wrong with it, or if the options refuse it.
void Finalize(const CudnnOptions& options, Descriptor* descriptor);

// Enqueues a finalized plan. Throws a CudnnError if something is wrong with the arguments.
void Execute(const CudnnOptions& options, CudaStream stream, const Descriptor& plan,
             const Descriptor& variant_pack);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDNN_CONTRACT_EXECUTION_PLAN_H_
