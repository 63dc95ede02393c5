#include "core/ops/softmax_cross_entropy.h"

#include "absl/strings/str_cat.h"
#include "core/ops/dispatch.h"
#include "core/ops/reference/softmax_cross_entropy.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckShapes(const Tensor& logits, const Tensor& targets, const Tensor& loss,
                 const Tensor& lse) {
  CheckOnCpu("softmax_cross_entropy", logits);
  CHECK(logits.rank() == 2 && targets.shape() == Shape{logits.dim(0)} &&
        loss.shape() == targets.shape() && lse.shape() == targets.shape() &&
        targets.dtype() == DType::kI32 && loss.dtype() == logits.dtype() &&
        lse.dtype() == logits.dtype())
      << "[softmax_cross_entropy] logits " << logits.ToString() << ", targets "
      << targets.ToString() << ", loss " << loss.ToString() << ", lse " << lse.ToString();
}

absl::Status CheckTargets(const Tensor& targets, int64_t vocab_size) {
  const int32_t* values = targets.data<int32_t>();
  for (int64_t n = 0; n < targets.dim(0); ++n) {
    if (values[n] >= 0 && values[n] < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("[softmax_cross_entropy] target of row ", n, " of ", targets.dim(0), " is ",
                     values[n], ", outside the vocabulary's [0, ", vocab_size, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SoftmaxCrossEntropyForward(const Context& ctx, const Tensor& logits,
                                        const Tensor& targets, Tensor loss, Tensor lse) {
  CheckShapes(logits, targets, loss, lse);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "softmax_cross_entropy", ctx.pass());
  const int64_t columns = logits.dim(1);
  if (absl::Status status = CheckTargets(targets, columns); !status.ok()) return status;
  DispatchReference("softmax_cross_entropy", logits.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::SoftmaxCrossEntropyForward(
          logits.data<Scalar>() + begin * columns, targets.data<int32_t>() + begin, end - begin,
          columns, loss.data<Scalar>() + begin, lse.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status SoftmaxCrossEntropyBackward(const Context& ctx, const Tensor& targets,
                                         const Tensor& lse, double scale, Tensor logits) {
  CheckShapes(logits, targets, lse, lse);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "softmax_cross_entropy", ctx.pass());
  const int64_t columns = logits.dim(1);
  if (absl::Status status = CheckTargets(targets, columns); !status.ok()) return status;
  DispatchReference("softmax_cross_entropy", logits.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::SoftmaxCrossEntropyBackward(targets.data<int32_t>() + begin,
                                             lse.data<Scalar>() + begin, end - begin, columns,
                                             scale, logits.data<Scalar>() + begin * columns);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
