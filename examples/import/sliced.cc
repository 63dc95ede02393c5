// Parallel layers without a model or a trainer: y = x W1 W2, both weights cut over tensor-parallel
// ranks, threads of this process. Prints what 1, 2 and 4 ranks compute, and exits 1 if it differs.
//
//   bazel run //:sliced
#include <iostream>
#include <vector>

#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/row_parallel_linear.h"

namespace {

using namespace strake;

constexpr int64_t kTokens = 4, kHidden = 8, kWidth = 16;

// Small integers, so that sums are exact in whatever order they are made.
TensorBuffer SmallIntegers(const Shape& shape) {
  TensorBuffer buffer(DType::kF32, shape);
  const Tensor& x = buffer;
  for (int64_t i = 0; i < x.num_elements(); ++i) x.data<float>()[i] = i % 7 - 3;
  return buffer;
}

float Checksum(const Tensor& x) {
  float sum = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) sum += x.data<float>()[i] * (i % 5 + 1);
  return sum;
}

// One rank: `y` becomes its output's checksum, `dx` that of its input's gradient for dy = y.
absl::Status Run(const Mesh& mesh, float* y_sum, float* dx_sum) {
  const TensorBuffer w1 = SmallIntegers({kHidden, kWidth}), w2 = SmallIntegers({kWidth, kHidden});
  const Tensor no_bias;
  STRAKE_ASSIGN_OR_RETURN(const auto up, ColumnParallelLinear::FromFull(w1, no_bias, mesh));
  STRAKE_ASSIGN_OR_RETURN(const auto down, RowParallelLinear::FromFull(w2, no_bias, mesh));

  ThreadTeam team(1);
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(1 << 20));
  const Context ctx(&team, &arena);
  const TensorBuffer x = SmallIntegers({kTokens, kHidden});
  LinearSaved up_saved;
  RowParallelLinearSaved down_saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, up.Forward(ctx, x, &up_saved));
  STRAKE_ASSIGN_OR_RETURN(const Tensor y, down.Forward(ctx, h, &down_saved));

  Pending<Tensor> pending_dh = down.BackwardInput(ctx, y, &down_saved);
  STRAKE_RETURN_IF_ERROR(down.BackwardWeight(ctx, y, down_saved));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());
  Pending<Tensor> pending_dx = up.BackwardInput(ctx, dh, &up_saved);  // the all-reduce starts,
  STRAKE_RETURN_IF_ERROR(up.BackwardWeight(ctx, dh, up_saved));       // and runs beside this
  STRAKE_ASSIGN_OR_RETURN(const Tensor dx, pending_dx.Wait());

  *y_sum = Checksum(y);
  *dx_sum = Checksum(dx);
  return absl::OkStatus();
}

absl::Status Compare() {
  std::vector<float> first;
  for (const int num_ranks : {1, 2, 4}) {
    std::vector<float> y(num_ranks), dx(num_ranks);
    const MeshVector sizes = {.dp = 1, .pp = 1, .cp = 1, .tp = num_ranks};
    STRAKE_RETURN_IF_ERROR(RunOnThreads(
        sizes, {}, [&](const Mesh& mesh) { return Run(mesh, &y[mesh.rank()], &dx[mesh.rank()]); }));
    for (int rank = 0; rank < num_ranks; ++rank) {
      std::cout << "rank " << rank << " of " << num_ranks << "  y " << y[rank] << "  dx "
                << dx[rank] << "\n";
      if (first.empty()) first = {y[0], dx[0]};
      if (y[rank] != first[0] || dx[rank] != first[1]) {
        return absl::InternalError("the ranks do not compute what one rank does");
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

int main() {
  const absl::Status status = Compare();
  if (!status.ok()) std::cerr << "error: " << status << "\n";
  return status.ok() ? 0 : 1;
}
