// Gathers a whole parameter from the ranks that hold its parts.
#ifndef STRAKE_PARALLEL_TENSOR_GATHER_PARAMETER_H_
#define STRAKE_PARALLEL_TENSOR_GATHER_PARAMETER_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh/mesh.h"

namespace strake {

// Returns, on the mesh's rank 0, a parameter's values, [whole.shape], of any dtype; padding holds
// zeros. They are in `memory` or, with one tensor-parallel rank and on the first stage, in `values`
// itself. With one tensor-parallel rank they are on the device of `values`, otherwise on the host.
// Other ranks get an undefined tensor.
//
//   T tensor-parallel ranks, N elements of the index space, which is the same on every rank
//   stage   the pp rank whose ranks hold the parameter
//   parts   [T] the parameter as each tensor-parallel rank holds it, of arenas that may be of dry
//           runs. The stage's first rank reads all of them, its others their own alone, and those
//           of other stages none
//   whole   the parameter of one rank without tensor parallelism
//   ranges  by rank of the gradient group: the part of the index space that its `values` cover;
//           together they cover the parameter once. Empty where each rank has all of it
//   values  [N], or [size of the rank's range]: an array over the rank's index space
//
// All ranks call it, for the same parameters in the same order, and none continues before all have
// called it. So the time that rank 0 spends on one parameter, not on all of them, counts against
// the others' timeout. First the ranks of each gradient group send their ranges to its rank 0 (with
// `ranges` alone). Then the tensor-parallel ranks that own a slice send it to rank 0, which then
// holds the whole parameter and up to one rank's part. "Rank 0" is that of the stage, which then
// sends the parameter to the mesh's. ResourceExhausted where there is no memory; else the
// communicator's error.
absl::StatusOr<Tensor> GatherParameter(const Mesh& mesh, int stage,
                                       absl::Span<const ParameterRecord* const> parts,
                                       const ParameterRecord& whole,
                                       absl::Span<const ShardRange> ranges, const Tensor& values,
                                       DeviceMemory* memory);

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_GATHER_PARAMETER_H_
