#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"

#include "absl/strings/str_cat.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_cpu.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_cuda.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr char kOp[] = "softmax_cross_entropy";

template <typename Scalar>
using RealOf = reference::RealOf<Scalar>;

void CheckShapes(const Tensor& logits, const Tensor& targets, const Tensor& loss,
                 const Tensor& lse) {
  CHECK(logits.rank() == 2 && targets.shape() == Shape{logits.dim(0)} &&
        loss.shape() == targets.shape() && lse.shape() == targets.shape() &&
        targets.dtype() == DType::kI32 && loss.dtype() == AccumulationDType(logits.dtype()) &&
        lse.dtype() == loss.dtype())
      << "[softmax_cross_entropy] logits " << logits.ToString() << ", targets "
      << targets.ToString() << ", loss " << loss.ToString() << ", lse " << lse.ToString();
}

void CheckWhole(const Tensor& logits, int64_t vocab_size) {
  CHECK(vocab_size > 0 && vocab_size <= logits.dim(1))
      << "[softmax_cross_entropy] logits " << logits.ToString() << " of a vocabulary of "
      << vocab_size;
}

void CheckSlice(const Tensor& logits, const VocabSlice& slice) {
  CHECK(slice.vocab_size > 0 && slice.begin >= 0)
      << "[softmax_cross_entropy] logits " << logits.ToString() << ", slice from " << slice.begin
      << " of " << slice.vocab_size;
}

void CheckSoftcap(const Tensor& logits, double softcap) {
  CHECK(softcap >= 0) << "[softmax_cross_entropy] logits " << logits.ToString() << ", softcap "
                      << softcap;
}

// Records of models without a cap have no such attribute.
void DescribeSoftcap(double softcap, OpCall* call) {
  if (softcap != 0) call->Set("softcap", softcap);
}

void CheckMax(const Tensor& logits, const Tensor& max) {
  CHECK(logits.rank() == 2 && max.shape() == Shape{logits.dim(0)} &&
        max.dtype() == SoftmaxMaxDType(logits.dtype()))
      << "[softmax_cross_entropy] logits " << logits.ToString() << ", max " << max.ToString();
}

// `x` is the logits, or another tensor of their dtype.
void CheckSums(const Tensor& x, const Tensor& max, const Tensor& sums) {
  CHECK(max.rank() == 1 && max.dtype() == SoftmaxMaxDType(x.dtype()) &&
        sums.shape() == (Shape{2, max.dim(0)}) && sums.dtype() == AccumulationDType(x.dtype()))
      << "[softmax_cross_entropy] max " << max.ToString() << ", sums " << sums.ToString()
      << ", from or to " << x.ToString();
}

absl::Status ForwardOnCuda(const Context& ctx, const Tensor& logits, const Tensor& targets,
                           int64_t vocab_size, const Tensor& loss, const Tensor& lse) {
  return DispatchCuda(kOp, logits.dtype(), [&]<typename T>() {
    return cuda::SoftmaxCrossEntropyForward<T>(ctx.cuda_stream(),
                                               {.logits = logits.data<T>(),
                                                .targets = targets.data<int32_t>(),
                                                .rows = logits.dim(0),
                                                .columns = logits.dim(1),
                                                .vocab_size = vocab_size,
                                                .loss = loss.data<float>(),
                                                .lse = lse.data<float>()});
  });
}

absl::Status ForwardBackwardOnCuda(const Context& ctx, const Tensor& targets, int64_t vocab_size,
                                   double scale, double softcap, const Tensor& logits,
                                   const Tensor& loss, const Tensor& lse) {
  return DispatchCuda(kOp, logits.dtype(), [&]<typename T>() {
    return cuda::SoftmaxCrossEntropyForwardBackward<T>(ctx.cuda_stream(),
                                                       {.targets = targets.data<int32_t>(),
                                                        .rows = logits.dim(0),
                                                        .columns = logits.dim(1),
                                                        .vocab_size = vocab_size,
                                                        .scale = static_cast<float>(scale),
                                                        .softcap = static_cast<float>(softcap),
                                                        .logits = logits.data<T>(),
                                                        .loss = loss.data<float>(),
                                                        .lse = lse.data<float>()});
  });
}

absl::Status SliceMaxOnCuda(const Context& ctx, const Tensor& logits, const VocabSlice& slice,
                            const Tensor& max) {
  return DispatchCuda(kOp, logits.dtype(), [&]<typename T>() {
    return cuda::SoftmaxSliceMax<T>(ctx.cuda_stream(), {.logits = logits.data<T>(),
                                                        .rows = logits.dim(0),
                                                        .columns = logits.dim(1),
                                                        .slice = slice,
                                                        .max = max.data<float>()});
  });
}

absl::Status BackwardOnCuda(const Context& ctx, const Tensor& targets, const Tensor& lse,
                            double scale, double softcap, const VocabSlice& slice,
                            const Tensor& logits) {
  return DispatchCuda(kOp, logits.dtype(), [&]<typename T>() {
    return cuda::SoftmaxCrossEntropyBackward<T>(ctx.cuda_stream(),
                                                {.targets = targets.data<int32_t>(),
                                                 .lse = lse.data<float>(),
                                                 .rows = logits.dim(0),
                                                 .columns = logits.dim(1),
                                                 .slice = slice,
                                                 .scale = static_cast<float>(scale),
                                                 .softcap = static_cast<float>(softcap),
                                                 .logits = logits.data<T>()});
  });
}

}  // namespace

absl::Status CheckTargets(const Tensor& targets, int64_t vocab_size) {
  const int32_t* values = targets.data<int32_t>();
  for (int64_t n = 0; n < targets.dim(0); ++n) {
    if ((values[n] >= 0 && values[n] < vocab_size) || values[n] == kNoTarget) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("[softmax_cross_entropy] target of row ", n, " of ", targets.dim(0), " is ",
                     values[n], ", outside the vocabulary's [0, ", vocab_size, ")"));
  }
  return absl::OkStatus();
}

absl::Status SoftmaxCrossEntropyForward(const Context& ctx, const Tensor& logits,
                                        const Tensor& targets, int64_t vocab_size, Tensor loss,
                                        Tensor lse) {
  CheckShapes(logits, targets, loss, lse);
  CheckWhole(logits, vocab_size);
  const bool on_cuda = OnCuda(kOp, ctx, logits, targets, loss, lse);
  const OpScope op(ctx, kOp, [&](OpCall& call) {
    call.In("logits", logits)
        .In("targets", targets)
        .Out("loss", loss)
        .Out("lse", lse)
        .Set("vocab_size", vocab_size);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return ForwardOnCuda(ctx, logits, targets, vocab_size, loss, lse);
  const int64_t columns = logits.dim(1);
  if (absl::Status status = CheckTargets(targets, vocab_size); !status.ok()) return status;
  const bool done = RunCpuKernels(kOp, ctx, logits.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(SoftmaxCrossEntropyForward(
          logits.data<T>() + begin * columns, targets.data<int32_t>() + begin, end - begin, columns,
          vocab_size, loss.data<float>() + begin, lse.data<float>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(kOp, logits.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::SoftmaxCrossEntropyForward(
          logits.data<Scalar>() + begin * columns, targets.data<int32_t>() + begin, end - begin,
          columns, vocab_size, loss.data<Scalar>() + begin, lse.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status SoftmaxCrossEntropyForwardBackward(const Context& ctx, const Tensor& targets,
                                                int64_t vocab_size, double scale, double softcap,
                                                Tensor logits, Tensor loss, Tensor lse) {
  CheckShapes(logits, targets, loss, lse);
  CheckSoftcap(logits, softcap);
  CheckWhole(logits, vocab_size);
  const bool on_cuda = OnCuda(kOp, ctx, targets, logits, loss, lse);
  if (!on_cuda && !HasCpuKernels(kOp, ctx, logits.dtype())) {
    const absl::Status status =
        SoftmaxCrossEntropyForward(ctx, logits, targets, vocab_size, loss, lse);
    if (!status.ok()) return status;
    Context backward = ctx;
    backward.set_pass(Pass::kBackward);
    return SoftmaxCrossEntropyBackward(backward, targets, lse, scale, softcap,
                                       {.vocab_size = vocab_size}, logits);
  }
  const OpScope op(ctx, kOp, [&](OpCall& call) {
    call.In("targets", targets)
        .InOut("logits", logits)
        .Out("loss", loss)
        .Out("lse", lse)
        .Set("vocab_size", vocab_size)
        .Set("scale", scale);
    DescribeSoftcap(softcap, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda)
    return ForwardBackwardOnCuda(ctx, targets, vocab_size, scale, softcap, logits, loss, lse);
  if (absl::Status status = CheckTargets(targets, vocab_size); !status.ok()) return status;
  const int64_t columns = logits.dim(1);
  RunCpuKernels(kOp, ctx, logits.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(SoftmaxCrossEntropyForwardBackward(
          targets.data<int32_t>() + begin, end - begin, columns, vocab_size,
          static_cast<float>(scale), static_cast<float>(softcap),
          logits.data<T>() + begin * columns, loss.data<float>() + begin,
          lse.data<float>() + begin));
    });
  });
  return absl::OkStatus();
}

absl::Status SoftmaxSliceMax(const Context& ctx, const Tensor& logits, const VocabSlice& slice,
                             Tensor max) {
  CheckSlice(logits, slice);
  CheckMax(logits, max);
  const bool on_cuda = OnCuda(kOp, ctx, logits, max);
  const OpScope op(ctx, "softmax_slice_max", [&](OpCall& call) {
    call.In("logits", logits)
        .Out("max", max)
        .Set("vocab_size", slice.vocab_size)
        .Set("begin", slice.begin);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return SliceMaxOnCuda(ctx, logits, slice, max);
  const int64_t columns = logits.dim(1);
  const bool done = RunCpuKernels(kOp, ctx, logits.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(SoftmaxSliceMax(logits.data<T>() + begin * columns, end - begin, columns,
                                     slice.NumTokens(columns), max.data<float>() + begin));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(kOp, logits.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::SoftmaxSliceMax(logits.data<Scalar>() + begin * columns, end - begin, columns,
                                 slice.NumTokens(columns), max.data<RealOf<Scalar>>() + begin);
    });
  });
  return absl::OkStatus();
}

absl::Status SoftmaxSliceSums(const Context& ctx, const Tensor& logits, const Tensor& targets,
                              const VocabSlice& slice, const Tensor& max, Tensor sums) {
  CheckSlice(logits, slice);
  CheckMax(logits, max);
  CheckSums(logits, max, sums);
  CHECK(targets.shape() == max.shape() && targets.dtype() == DType::kI32)
      << "[softmax_cross_entropy] logits " << logits.ToString() << ", targets "
      << targets.ToString();
  const bool on_cuda = OnCuda(kOp, ctx, logits, targets, max, sums);
  const OpScope op(ctx, "softmax_slice_sums", [&](OpCall& call) {
    call.In("logits", logits)
        .In("targets", targets)
        .In("max", max)
        .Out("sums", sums)
        .Set("vocab_size", slice.vocab_size)
        .Set("begin", slice.begin);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of =
      [&]<typename T, typename Sum, typename Max>() -> SoftmaxSliceSumsArgs<T, Sum, Max> {
    return {.logits = logits.data<T>(),
            .targets = targets.data<int32_t>(),
            .rows = logits.dim(0),
            .columns = logits.dim(1),
            .slice = slice,
            .max = max.data<Max>(),
            .sums = sums.data<Sum>()};
  };
  if (on_cuda) {
    return DispatchCuda(kOp, logits.dtype(), [&]<typename T>() {
      return cuda::SoftmaxSliceSums<T>(ctx.cuda_stream(),
                                       args_of.template operator()<T, float, float>());
    });
  }
  if (absl::Status status = CheckTargets(targets, slice.vocab_size); !status.ok()) return status;
  const int64_t rows = logits.dim(0), grain = RowGrain(logits.dim(1));
  const bool done = RunCpuKernels(kOp, ctx, logits.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float, float>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(SoftmaxSliceSums(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(kOp, logits.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar, RealOf<Scalar>>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      reference::SoftmaxSliceSums<Scalar>(args, begin, end);
    });
  });
  return absl::OkStatus();
}

absl::Status SoftmaxCrossEntropyFromSums(const Context& ctx, const Tensor& targets,
                                         const Tensor& max, const Tensor& sums, Tensor loss,
                                         Tensor lse) {
  CheckSums(loss, max, sums);
  CHECK(targets.shape() == max.shape() && targets.dtype() == DType::kI32 &&
        loss.shape() == max.shape() && lse.shape() == max.shape() && lse.dtype() == loss.dtype())
      << "[softmax_cross_entropy] targets " << targets.ToString() << ", max " << max.ToString()
      << ", loss " << loss.ToString() << ", lse " << lse.ToString();
  const bool on_cuda = OnCuda(kOp, ctx, targets, max, sums, loss, lse);
  const OpScope op(ctx, "softmax_from_sums", [&](OpCall& call) {
    call.In("targets", targets).In("max", max).In("sums", sums).Out("loss", loss).Out("lse", lse);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return cuda::SoftmaxCrossEntropyFromSums(ctx.cuda_stream(), {.targets = targets.data<int32_t>(),
                                                                 .max = max.data<float>(),
                                                                 .sums = sums.data<float>(),
                                                                 .rows = max.dim(0),
                                                                 .loss = loss.data<float>(),
                                                                 .lse = lse.data<float>()});
  }
  const int64_t rows = max.dim(0);
  DispatchReference(kOp, loss.dtype(), [&]<typename Scalar>() {
    reference::SoftmaxCrossEntropyFromSums(targets.data<int32_t>(), max.data<RealOf<Scalar>>(),
                                           sums.data<Scalar>(), sums.data<Scalar>() + rows, rows,
                                           loss.data<Scalar>(), lse.data<Scalar>());
  });
  return absl::OkStatus();
}

absl::Status SoftmaxCrossEntropyBackward(const Context& ctx, const Tensor& targets,
                                         const Tensor& lse, double scale, double softcap,
                                         const VocabSlice& slice, Tensor logits) {
  CheckSlice(logits, slice);
  CheckSoftcap(logits, softcap);
  CheckShapes(logits, targets, lse, lse);
  const bool on_cuda = OnCuda(kOp, ctx, targets, lse, logits);
  const OpScope op(ctx, kOp, [&](OpCall& call) {
    call.In("targets", targets)
        .In("lse", lse)
        .InOut("logits", logits)
        .Set("vocab_size", slice.vocab_size)
        .Set("begin", slice.begin)
        .Set("scale", scale);
    DescribeSoftcap(softcap, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return BackwardOnCuda(ctx, targets, lse, scale, softcap, slice, logits);
  const int64_t columns = logits.dim(1);
  if (absl::Status status = CheckTargets(targets, slice.vocab_size); !status.ok()) return status;
  const bool done = RunCpuKernels(kOp, ctx, logits.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(SoftmaxCrossEntropyBackward(
          targets.data<int32_t>() + begin, lse.data<float>() + begin, end - begin, columns,
          slice.begin, slice.NumTokens(columns), static_cast<float>(scale),
          static_cast<float>(softcap), logits.data<T>() + begin * columns));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference(kOp, logits.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(logits.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::SoftmaxCrossEntropyBackward(targets.data<int32_t>() + begin,
                                             lse.data<Scalar>() + begin, end - begin, columns,
                                             slice.begin, slice.NumTokens(columns), scale, softcap,
                                             logits.data<Scalar>() + begin * columns);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
