// For tests of tensor-parallel layers: ranks to run them on, and what to compare with the whole
// layer on one rank.
#ifndef STRAKE_PARALLEL_TENSOR_LAYER_TEST_UTIL_H_
#define STRAKE_PARALLEL_TENSOR_LAYER_TEST_UTIL_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "core/testing/test_context.h"
#include "parallel/comm/collective_call.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/shard.h"

namespace strake::testing {

inline constexpr int kRankCounts[] = {1, 2, 3, 4, 8};

// A dtype and the ops it runs on.
struct Numerics {
  DType dtype;
  OpSet op_set;
};
inline constexpr Numerics kNumerics[] = {{DType::kF64, OpSet::kReference},
                                         {DType::kF32, OpSet::kAuto}};

// A linear layer on one rank, of small integers: weight [in, out] and, with a bias, bias [out].
struct WholeLinear {
  WholeLinear(const Numerics& numerics, int64_t in, int64_t out, bool has_bias);

  // Undefined where there is none.
  Tensor BiasOrNone() const { return bias == nullptr ? Tensor() : bias->value; }

  struct Result {
    Tensor y, dx;
  };
  // Forward and backward of a micro-batch, += into the gradients.
  Result Run(const Tensor& x, const Tensor& dy);

  TestContext ctx;
  ParameterArena arena;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;  // null where there is none
};

// Runs `body` on the ranks of a tensor-parallel mesh, each with a context of its own, in check
// mode, where a wait of ten seconds is an error. Fails the test on an error.
void OnRanks(int num_ranks, OpSet op_set,
             absl::FunctionRef<absl::Status(const Mesh& mesh, TestContext& ctx)> body);

// A collective that a rank asked for `calls` times, of `bytes` in all.
struct ExpectedCollective {
  CollectiveKind kind;
  int64_t calls;
  int64_t bytes;
};

// That the rank asked its tp group for these, and nothing else, since the last call; one rank for
// nothing at all.
void ExpectCollectives(const Mesh& mesh, const std::vector<ExpectedCollective>& expected);

// That `parts`, by rank, hold all of `whole`, and just that; `field` is &Parameter::value or
// &Parameter::grad. Each element that a rank holds is compared, exactly, and counted: once for each
// of its declared holders, of whom one is the owner. What is replicated is the same on all of them,
// partial gradients are summed over them first, and padding is 0.
void ExpectPartsOfWhole(const std::vector<const ParameterRecord*>& parts,
                        const ParameterRecord& whole, Tensor Parameter::*field);

// The rank's rows of `x`, [N, C]: all of them without sequence parallelism.
Tensor LocalTokens(const Tensor& x, const Mesh& mesh, bool sequence_parallel);

// whole [full_shape] += local [shard_shape], at the rank's pieces.
void AddPieces(const WeightShards& shards, const Tensor& local, int rank, const Tensor& whole);

// `x`; without its memory in a dry run.
Tensor InputOf(const Context& ctx, const Tensor& x);

// That `run` in a dry run communicates nothing and plans to the byte what it then allocates with
// memory, and that `run_planned` (the same passes of a layer of TensorParallel::Planned(), called
// in a dry run alone) plans the same.
absl::Status ExpectDryRunPlans(const Mesh& mesh,
                               absl::FunctionRef<absl::Status(const Context&)> run,
                               absl::FunctionRef<absl::Status(const Context&)> run_planned);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_TENSOR_LAYER_TEST_UTIL_H_
