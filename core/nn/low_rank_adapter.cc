#include "core/nn/low_rank_adapter.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/copy/copy.h"
#include "core/ops/matmul/matmul.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/ops/scale/scale.h"
#include "glog/logging.h"

namespace strake {
namespace {

// From an element of a matrix on, in one dimension, to the end of a block's last row.
Tensor BlockOf(const Tensor& matrix, int64_t row, int64_t column, int64_t rows, int64_t columns) {
  const int64_t stride = matrix.dim(1), begin = row * stride + column;
  return matrix.Reshape({matrix.num_elements()}).Rows(begin, begin + (rows - 1) * stride + columns);
}

}  // namespace

LowRankAdapter::LowRankAdapter(Parameter* a, Parameter* b, double scale,
                               std::vector<ShardRange> parts, int64_t out)
    : a_(a),
      b_(b),
      scale_(scale),
      parts_(std::move(parts)),
      out_(out),
      whole_(parts_.size() == 1 && parts_[0].size() == out) {
  int64_t columns = 0;
  for (const ShardRange& part : parts_) {
    CHECK(0 <= part.begin && part.end <= out) << "[low_rank_adapter] columns of " << out;
    columns += part.size();
  }
  CHECK(a->shape.size() == 2 && b->shape.size() == 2 && b->shape[1] == columns &&
        a->shape[1] == b->shape[0] * static_cast<int64_t>(parts_.size()))
      << "[low_rank_adapter] a " << ShapeString(a->shape) << ", b " << ShapeString(b->shape) << ", "
      << parts_.size() << " parts of " << columns << " columns";
  a->grad_is_overwritten = true;
  b->grad_is_overwritten = whole_;
}

absl::Status LowRankAdapter::ApplyScale(const Context& ctx, const Tensor& x) const {
  return scale_ == 1 ? absl::OkStatus() : Scale(ctx, scale_, x, x);
}

absl::StatusOr<Tensor> LowRankAdapter::Narrow(const Context& ctx, const Tensor& x) const {
  const Tensor u = ctx.arena().Allocate(x.dtype(), {x.dim(0), a_->shape[1]});
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, x, a_->value, {}, u));
  STRAKE_RETURN_IF_ERROR(ApplyScale(ctx, u));
  return u;
}

absl::StatusOr<Tensor> LowRankAdapter::Blocks(const Context& ctx) const {
  const Tensor& b = b_->value;
  if (whole_) return b;
  const Tensor blocks = ctx.arena().Allocate(b.dtype(), {a_->shape[1], out_});
  STRAKE_RETURN_IF_ERROR(SetZero(ctx, blocks));
  const int64_t rank = b.dim(0);
  int64_t row = 0, column = 0;
  for (const ShardRange& part : parts_) {
    const int64_t n = part.size();
    STRAKE_RETURN_IF_ERROR(CopyRows(ctx, BlockOf(b, 0, column, rank, n), b.dim(1), rank, n,
                                    BlockOf(blocks, row, part.begin, rank, n), out_));
    row += rank;
    column += n;
  }
  return blocks;
}

absl::Status LowRankAdapter::Forward(const Context& ctx, const Tensor& x, const Tensor& y) const {
  const ActivationScope scope(ctx.arena());
  ctx.WillRead(*a_);
  ctx.WillRead(*b_);
  STRAKE_ASSIGN_OR_RETURN(const Tensor u, Narrow(ctx, x));
  STRAKE_ASSIGN_OR_RETURN(const Tensor blocks, Blocks(ctx));
  return Matmul(ctx, u, blocks, {.accumulate = true}, y);
}

absl::Status LowRankAdapter::BackwardInput(const Context& ctx, const Tensor& dy, const Tensor& dx,
                                           LowRankAdapterSaved* saved, const Context* kept) const {
  ActivationArena& arena = kept != nullptr ? kept->arena() : ctx.arena();
  saved->du = arena.Allocate(dy.dtype(), {dy.dim(0), a_->shape[1]});
  const ActivationScope scope(ctx.arena());
  STRAKE_ASSIGN_OR_RETURN(const Tensor blocks, Blocks(ctx));
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, dy, blocks, {.transpose_b = true}, saved->du));
  STRAKE_RETURN_IF_ERROR(ApplyScale(ctx, saved->du));
  return Matmul(ctx, saved->du, a_->value, {.transpose_b = true, .accumulate = true}, dx);
}

absl::Status LowRankAdapter::AddBlocks(const Context& ctx, const Tensor& db) const {
  const Tensor& grad = b_->grad;
  const Tensor packed = ctx.arena().Allocate(grad.dtype(), grad.shape());
  const int64_t rank = grad.dim(0);
  int64_t row = 0, column = 0;
  for (const ShardRange& part : parts_) {
    const int64_t n = part.size();
    STRAKE_RETURN_IF_ERROR(CopyRows(ctx, BlockOf(db, row, part.begin, rank, n), out_, rank, n,
                                    BlockOf(packed, 0, column, rank, n), grad.dim(1)));
    row += rank;
    column += n;
  }
  return ResidualAddForward(ctx, grad, packed, grad);
}

absl::Status LowRankAdapter::BackwardWeight(const Context& ctx, const Tensor& dy, const Tensor& x,
                                            const LowRankAdapterSaved& saved) const {
  CHECK(saved.du.defined()) << "[low_rank_adapter] BackwardWeight() before BackwardInput()";
  const ActivationScope scope(ctx.arena());
  STRAKE_ASSIGN_OR_RETURN(const Tensor u, Narrow(ctx, x));
  const auto accumulates = [](Parameter* parameter) {
    return !std::exchange(parameter->grad_is_cleared, false);
  };
  if (whole_) {
    const MatmulOptions options = {.transpose_a = true, .accumulate = accumulates(b_)};
    STRAKE_RETURN_IF_ERROR(Matmul(ctx, u, dy, options, b_->grad));
  } else {
    const Tensor db = ctx.arena().Allocate(b_->grad.dtype(), {u.dim(1), out_});
    STRAKE_RETURN_IF_ERROR(Matmul(ctx, u, dy, {.transpose_a = true}, db));
    STRAKE_RETURN_IF_ERROR(AddBlocks(ctx, db));
  }
  ctx.GradReady(*b_);
  const MatmulOptions options = {.transpose_a = true, .accumulate = accumulates(a_)};
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, x, saved.du, options, a_->grad));
  ctx.GradReady(*a_);
  return absl::OkStatus();
}

}  // namespace strake
