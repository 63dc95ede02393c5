// Helpers for tests of tensor-parallel layers: they run ranks, and compare with the whole layer on
// one rank.
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

  // Undefined where there is no bias.
  Tensor BiasOrNone() const { return bias == nullptr ? Tensor() : bias->value; }

  struct Result {
    Tensor y, dx;
  };
  // Runs forward and backward of a micro-batch, += into the gradients.
  Result Run(const Tensor& x, const Tensor& dy);

  TestContext ctx;
  ParameterArena arena;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;  // null where there is none
};

// Runs `body` on the ranks of a tensor-parallel mesh, each with its own context, in check mode,
// where a wait of ten seconds is an error. Fails the test on an error.
void OnRanks(int num_ranks, OpSet op_set,
             absl::FunctionRef<absl::Status(const Mesh& mesh, TestContext& ctx)> body);

// A collective that a rank called `calls` times, with `bytes` in total.
struct ExpectedCollective {
  CollectiveKind kind;
  int64_t calls;
  int64_t bytes;
};

// Expects that the rank called just these collectives of its tp group since the last call; with one
// rank, none at all.
void ExpectCollectives(const Mesh& mesh, const std::vector<ExpectedCollective>& expected);

// Expects that `parts`, by rank, together hold exactly `whole`; `field` is &Parameter::value or
// &Parameter::grad. Each element that a rank holds is compared, exactly, and counted: once for each
// of its declared holders, one of which is the owner. Replicated elements are the same on all
// holders, partial gradients are summed over the holders first, and padding is 0.
void ExpectPartsOfWhole(const std::vector<const ParameterRecord*>& parts,
                        const ParameterRecord& whole, Tensor Parameter::*field);

// The rank's rows of `x`, [N, C]: all rows without sequence parallelism.
Tensor LocalTokens(const Tensor& x, const Mesh& mesh, bool sequence_parallel);

// whole [full_shape] += local [shard_shape], at the rank's pieces.
void AddPieces(const WeightShards& shards, const Tensor& local, int rank, const Tensor& whole);

// `x`; in a dry run, without its memory.
Tensor InputOf(const Context& ctx, const Tensor& x);

// Expects that `run` communicates nothing in a dry run, and plans to the byte what it then
// allocates with memory. Expects the same plan of `run_planned`: the same passes of a layer of
// TensorParallel::Planned(), called in a dry run alone.
absl::Status ExpectDryRunPlans(const Mesh& mesh,
                               absl::FunctionRef<absl::Status(const Context&)> run,
                               absl::FunctionRef<absl::Status(const Context&)> run_planned);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_TENSOR_LAYER_TEST_UTIL_H_
