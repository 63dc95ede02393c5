#include "parallel/tensor/tensor_parallel.h"

#include <memory>
#include <utility>

#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The profile counts the wait: the part of a collective that overlaps with other work costs
// nothing.
Pending<Tensor> Profiled(const Context& ctx, const char* op, const Tensor& result,
                         Pending<Tensor> pending) {
  if (ctx.profile() == nullptr) return pending;
  auto inner = std::make_shared<Pending<Tensor>>(std::move(pending));
  return Pending<Tensor>(result, [inner, op, profile = ctx.profile(), pass = ctx.pass()] {
    const OpTimer timer(profile, op, pass);
    return inner->Wait().status();
  });
}

}  // namespace

TensorParallel::TensorParallel(Communicator& communicator, bool sequence_parallel)
    : communicator_(&communicator),
      rank_(communicator.rank()),
      size_(communicator.size()),
      sequence_parallel_(sequence_parallel && size_ > 1) {}

TensorParallel TensorParallel::Planned(int rank, int size, bool sequence_parallel) {
  CHECK(0 <= rank && rank < size) << "[tensor_parallel] rank " << rank << " of " << size;
  TensorParallel tp;
  tp.rank_ = rank;
  tp.size_ = size;
  tp.sequence_parallel_ = sequence_parallel && size > 1;
  return tp;
}

TensorParallel TensorParallel::WithoutSequenceParallelism() const {
  TensorParallel plain = *this;
  plain.sequence_parallel_ = false;
  return plain;
}

Communicator& TensorParallel::communicator() const {
  CHECK(communicator_ != nullptr) << "[tensor_parallel] rank " << rank_ << " of " << size_
                                  << " was made for dry runs: it has no communicator";
  return *communicator_;
}

int64_t TensorParallel::NumLocalTokens(int64_t num_tokens) const {
  if (!sequence_parallel_) return num_tokens;
  CHECK_EQ(num_tokens % size_, 0) << "[tensor_parallel] " << num_tokens << " tokens over " << size_
                                  << " sequence-parallel ranks";
  return num_tokens / size_;
}

int64_t TensorParallel::FirstLocalToken(int64_t num_tokens) const {
  return sequence_parallel_ ? rank_ * NumLocalTokens(num_tokens) : 0;
}

absl::StatusOr<Tensor> TensorParallel::GatherTokens(const Context& ctx, const Tensor& x,
                                                    CallSite site) const {
  if (!sequence_parallel_) return x;
  Shape shape = x.shape();
  shape[0] *= size_;
  const Tensor full = ctx.arena().Allocate(x.dtype(), shape);
  if (!Communicates(ctx)) return full;
  return Profiled(ctx, "all_gather", full, communicator().AllGather(x, full, {}, site)).Wait();
}

Pending<Tensor> TensorParallel::SumTokens(const Context& ctx, const Tensor& x, const Tensor& y,
                                          CallSite site) const {
  CHECK(sequence_parallel_ || x.raw() == y.raw())
      << "[tensor_parallel] an all-reduce is in place: x " << x.ToString() << ", y "
      << y.ToString();
  if (!Communicates(ctx)) return y;
  if (sequence_parallel_) {
    return Profiled(ctx, "reduce_scatter", y, communicator().ReduceScatterSum(x, y, {}, site));
  }
  return Profiled(ctx, "all_reduce", y, communicator().AllReduceSum(y, site));
}

Pending<Tensor> TensorParallel::SumTokensInPlace(const Context& ctx, const Tensor& x,
                                                 CallSite site) const {
  const int64_t begin = FirstLocalToken(x.dim(0));
  return SumTokens(ctx, x, x.Rows(begin, begin + NumLocalTokens(x.dim(0))), site);
}

absl::StatusOr<Tensor> TensorParallel::GatherColumns(const Context& ctx, const Tensor& x,
                                                     CallSite site) const {
  CHECK_EQ(x.rank(), 2) << "[tensor_parallel] columns of " << x.ToString();
  if (size_ == 1) return x;
  const Tensor full = ctx.arena().Allocate(x.dtype(), {x.dim(0), x.dim(1) * size_});
  if (!Communicates(ctx)) return full;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const Tensor to = full.Rows(row, row + 1);
    STRAKE_RETURN_IF_ERROR(Profiled(ctx, "all_gather", to,
                                    communicator().AllGather(x.Rows(row, row + 1), to, {}, site))
                               .Wait()
                               .status());
  }
  return full;
}

absl::Status TensorParallel::AllReduceSum(const Context& ctx, const Tensor& x,
                                          CallSite site) const {
  if (!Communicates(ctx)) return absl::OkStatus();
  return Profiled(ctx, "all_reduce", x, communicator().AllReduceSum(x, site)).Wait().status();
}

absl::Status TensorParallel::AllReduceMax(const Context& ctx, const Tensor& x,
                                          CallSite site) const {
  if (!Communicates(ctx)) return absl::OkStatus();
  return Profiled(ctx, "all_reduce", x, communicator().AllReduceMax(x, site)).Wait().status();
}

}  // namespace strake
