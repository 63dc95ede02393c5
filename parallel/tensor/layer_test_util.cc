#include "parallel/tensor/layer_test_util.h"

#include <chrono>
#include <complex>
#include <cstring>
#include <string>

#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/memory/activation_arena.h"
#include "core/nn/linear.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake::testing {
namespace {

constexpr size_t kArenaBytes = size_t{1} << 24;

// The whole's column that holds this column of a tensor.
int64_t WholeColumn(const ParameterRecord& whole, const std::string& tensor, int64_t column) {
  int64_t begin = 0;
  for (const ParameterSegment& segment : whole.segments) {
    const int64_t at = column - segment.slice.column_begin;
    if (segment.name == tensor && 0 <= at && at < segment.columns) return begin + at;
    begin += segment.columns;
  }
  ADD_FAILURE() << "no column " << column << " of " << tensor << " in " << whole.name();
  return 0;
}

bool SameElementBits(const Tensor& a, const Tensor& b, int64_t i) {
  const size_t size = DTypeSize(a.dtype());
  return std::memcmp(static_cast<const char*>(a.raw()) + i * size,
                     static_cast<const char*>(b.raw()) + i * size, size) == 0;
}

class PartsComparison {
 public:
  PartsComparison(const std::vector<const ParameterRecord*>& parts, const ParameterRecord& whole,
                  Tensor Parameter::*field)
      : parts_(parts),
        whole_(whole),
        field_(field),
        full_(whole.parameter.*field),
        num_compared_(full_.num_elements()),
        num_holders_(full_.num_elements()),
        num_owners_(full_.num_elements()) {}

  void Run() {
    std::vector<int> owner(parts_.front()->segments.size());
    for (int rank = 0; rank < static_cast<int>(parts_.size()); ++rank) {
      ASSERT_EQ(parts_[rank]->segments.size(), owner.size());
      int64_t column = 0;
      for (size_t s = 0; s < owner.size(); ++s) {
        const ParameterSegment& segment = parts_[rank]->segments[s];
        if (segment.slice.owner) owner[s] = rank;
        CompareSegment(segment, column, rank, owner[s]);
        column += segment.columns;
      }
    }
    EXPECT_EQ(num_wrong_, 0) << first_wrong_;
    EXPECT_EQ(num_unlike_, 0) << whole_.name();
    for (int64_t i = 0; i < full_.num_elements(); ++i) {
      ASSERT_EQ(num_compared_[i], num_holders_[i]) << whole_.name() << ", element " << i;
      ASSERT_EQ(num_owners_[i], 1) << whole_.name() << ", element " << i;
    }
  }

 private:
  void CompareSegment(const ParameterSegment& segment, int64_t first_column, int rank, int owner) {
    const SegmentSlice& slice = segment.slice;
    const int64_t columns = parts_[rank]->shape().back();
    const int64_t rows = parts_[rank]->shape().size() == 1 ? 1 : parts_[rank]->shape()[0];
    const int64_t begin = WholeColumn(whole_, segment.name, slice.column_begin);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t c = 0; c < segment.columns; ++c) {
        const int64_t local = row * columns + first_column + c;
        if (row >= slice.num_rows) {
          Compare(At(rank, local), 0, "padding", rank, local);
          continue;
        }
        const int64_t at = (slice.row_begin + row) * whole_.shape().back() + begin + c;
        Compare(Held(slice, rank, owner, local), GetElement(full_, at), "held", rank, local);
        ++num_compared_[at];
        num_holders_[at] = slice.num_holders;
        if (slice.owner) ++num_owners_[at];
      }
    }
  }

  std::complex<double> At(int rank, int64_t i) const {
    return GetElement(parts_[rank]->parameter.*field_, i);
  }

  std::complex<double> Held(const SegmentSlice& slice, int rank, int owner, int64_t i) {
    if (field_ == &Parameter::value || !slice.partial_grad) {
      const Tensor &own = parts_[rank]->parameter.*field_,
                   &owned = parts_[owner]->parameter.*field_;
      if (!SameElementBits(own, owned, i)) ++num_unlike_;
      return At(rank, i);
    }
    std::complex<double> sum = 0;
    for (int holder = owner; holder < owner + slice.num_holders; ++holder) sum += At(holder, i);
    return sum;
  }

  void Compare(std::complex<double> actual, std::complex<double> expected, const char* what,
               int rank, int64_t i) {
    if (actual == expected) return;
    if (num_wrong_++ > 0) return;
    first_wrong_ = whole_.name() + ", " + what + ": element " + std::to_string(i) + " of rank " +
                   std::to_string(rank) + " is " + std::to_string(actual.real()) + ", not " +
                   std::to_string(expected.real());
  }

  const std::vector<const ParameterRecord*>& parts_;
  const ParameterRecord& whole_;
  Tensor Parameter::*const field_;
  const Tensor full_;
  std::vector<int> num_compared_, num_holders_, num_owners_;  // by element of the whole
  int num_unlike_ = 0;                                        // bits that differ from the owner's
  int num_wrong_ = 0;
  std::string first_wrong_;
};

}  // namespace

WholeLinear::WholeLinear(const Numerics& numerics, int64_t in, int64_t out, bool has_bias)
    : ctx(numerics.op_set, /*num_threads=*/1) {
  weight = arena.Add({{"weight", out}}, {in, out}, true);
  if (has_bias) bias = arena.Add({{"bias", out}}, {out}, false);
  EXPECT_TRUE(arena.Allocate(numerics.dtype, true).ok());
  FillSmallIntegers(weight->value, 1);
  if (has_bias) FillSmallIntegers(bias->value, 2);
}

WholeLinear::Result WholeLinear::Run(const Tensor& x, const Tensor& dy) {
  const Linear linear(weight, bias);
  LinearSaved saved;
  const Tensor y = linear.Forward(ctx, x, &saved).value();
  const Tensor dx = linear.BackwardInput(ctx, dy, &saved).Wait().value();
  EXPECT_TRUE(linear.BackwardWeight(ctx, dy, saved).ok());
  return {y, dx};
}

void OnRanks(int num_ranks, OpSet op_set,
             absl::FunctionRef<absl::Status(const Mesh& mesh, TestContext& ctx)> body) {
  const absl::Status status =
      RunOnThreads({.dp = 1, .pp = 1, .cp = 1, .tp = num_ranks},
                   {.timeout = std::chrono::seconds(10), .check = true}, [&](const Mesh& mesh) {
                     TestContext ctx(op_set, /*num_threads=*/1, kArenaBytes);
                     mesh.communicator(MeshAxis::kTp).ClearStats();
                     return body(mesh, ctx);
                   });
  EXPECT_TRUE(status.ok()) << status;
}

void ExpectCollectives(const Mesh& mesh, const std::vector<ExpectedCollective>& expected) {
  Communicator& group = mesh.communicator(MeshAxis::kTp);
  CollectiveStats::Entry total;
  if (group.size() > 1) {
    for (const ExpectedCollective& e : expected) {
      EXPECT_EQ(group.stats()[e.kind].calls, e.calls) << CollectiveName(e.kind);
      EXPECT_EQ(group.stats()[e.kind].bytes, e.bytes) << CollectiveName(e.kind);
      total.calls += e.calls;
    }
  }
  EXPECT_EQ(group.stats().Total().calls, total.calls);
  group.ClearStats();
}

void ExpectPartsOfWhole(const std::vector<const ParameterRecord*>& parts,
                        const ParameterRecord& whole, Tensor Parameter::*field) {
  PartsComparison(parts, whole, field).Run();
}

Tensor LocalTokens(const Tensor& x, const Mesh& mesh, bool sequence_parallel) {
  if (!sequence_parallel) return x;
  const Communicator& group = mesh.communicator(MeshAxis::kTp);
  const int64_t rows = x.dim(0) / group.size();
  return x.Rows(group.rank() * rows, (group.rank() + 1) * rows);
}

void AddPieces(const WeightShards& shards, const Tensor& local, int rank, const Tensor& whole) {
  ASSERT_EQ(shards.dim(), 1);
  const int64_t columns = whole.dim(1), local_columns = local.dim(1);
  for (const WeightShards::Piece& piece : shards.Pieces(rank)) {
    for (int64_t n = 0; n < whole.dim(0); ++n) {
      for (int64_t c = 0; c < piece.full.range.size(); ++c) {
        const int64_t at = n * columns + piece.full.range.begin + c;
        const auto term = GetElement(local, n * local_columns + piece.local_begin + c);
        SetElement(whole, at, GetElement(whole, at) + term);
      }
    }
  }
}

Tensor InputOf(const Context& ctx, const Tensor& x) {
  return ctx.dry_run() ? Tensor(nullptr, x.dtype(), x.shape()) : x;
}

absl::Status ExpectDryRunPlans(const Mesh& mesh,
                               absl::FunctionRef<absl::Status(const Context&)> run,
                               absl::FunctionRef<absl::Status(const Context&)> run_planned) {
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun(), planned = ActivationArena::DryRun();
  STRAKE_RETURN_IF_ERROR(run(Context(&team, &plan)));
  STRAKE_RETURN_IF_ERROR(run_planned(Context(&team, &planned)));
  ExpectCollectives(mesh, {});
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(plan.peak_bytes()));
  STRAKE_RETURN_IF_ERROR(run(Context(&team, &arena)));
  EXPECT_GT(plan.peak_bytes(), 0);
  EXPECT_EQ(arena.peak_bytes(), plan.peak_bytes());
  EXPECT_EQ(arena.used_bytes(), plan.used_bytes());
  EXPECT_EQ(planned.peak_bytes(), plan.peak_bytes());
  EXPECT_EQ(planned.used_bytes(), plan.used_bytes());
  const int64_t calls = mesh.communicator(MeshAxis::kTp).stats().Total().calls;
  EXPECT_EQ(calls > 0, mesh.communicator(MeshAxis::kTp).size() > 1);
  return absl::OkStatus();
}

}  // namespace strake::testing
