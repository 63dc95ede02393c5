#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_check.h"

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/base/no_target.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"

namespace strake {
namespace {

double VocabSize(const OpCall& call) { return call.Get("vocab_size"); }

VocabSlice SliceOf(const OpCall& call) {
  return {.vocab_size = call.GetInt("vocab_size"), .begin = call.GetInt("begin")};
}

// Of tokens all over the vocabulary; every eighth row has none.
OpTensor Targets(const OpCall& call, int64_t vocab_size) {
  std::vector<int32_t> ids(NumElements(call.ShapeOf("targets")));
  for (size_t n = 0; n < ids.size(); ++n) {
    ids[n] = n % 8 == 7 ? kNoTarget : static_cast<int32_t>(n * 7919 % vocab_size);
  }
  return Ids(call, "targets", std::move(ids));
}
OpTensor Targets(const OpCall& call) { return Targets(call, call.GetInt("vocab_size")); }

// The errors are those of a sum of exponentials, which is positive, and a logarithm.
Rounding LossRounding(const OpCall& call) { return {VocabSize(call), 8}; }

OpCheck ForwardCheck(const OpCall& call) {
  return {.tensors = {In(call, "logits"), Out(call, "loss", LossRounding(call)),
                      Out(call, "lse", LossRounding(call)), Targets(call)},
          .run = [vocab_size = call.GetInt("vocab_size")](const Context& ctx, const Tensors& t) {
            return SoftmaxCrossEntropyForward(ctx, t[0], t[3], vocab_size, t[1], t[2]);
          }};
}

OpCheck ForwardBackwardCheck(const OpCall& call) {
  const double width = VocabSize(call);
  return {.tensors = {InOut(call, "logits", {width, 16 + std::log(width)}),
                      Out(call, "loss", LossRounding(call)), Out(call, "lse", LossRounding(call)),
                      Targets(call)},
          .run = [vocab_size = call.GetInt("vocab_size"), scale = call.Get("scale"),
                  softcap = call.GetOr("softcap", 0)](const Context& ctx, const Tensors& t) {
            return SoftmaxCrossEntropyForwardBackward(ctx, t[3], vocab_size, scale, softcap, t[0],
                                                      t[1], t[2]);
          }};
}

// A relative error of a probability is an absolute error of logit and lse, which are a few units in
// size.
OpCheck BackwardCheck(const OpCall& call) {
  const double log_vocab = std::log(VocabSize(call));
  return {.tensors = {In(call, "lse", log_vocab + 0.5, 0.1),
                      InOut(call, "logits", {0, 8 + log_vocab}), Targets(call)},
          .run = [slice = SliceOf(call), scale = call.Get("scale"),
                  softcap = call.GetOr("softcap", 0)](const Context& ctx, const Tensors& t) {
            return SoftmaxCrossEntropyBackward(ctx, t[2], t[0], scale, softcap, slice, t[1]);
          }};
}

}  // namespace

OpCheck SoftmaxCrossEntropyCheck(const OpCall& call) {
  if (!call.Has("loss")) return BackwardCheck(call);
  return call.Find("logits")->role == OpRole::kInOut ? ForwardBackwardCheck(call)
                                                     : ForwardCheck(call);
}

OpCheck SoftmaxSliceMaxCheck(const OpCall& call) {
  return {.tensors = {In(call, "logits"), Out(call, "max", kExact)},
          .run = [slice = SliceOf(call)](const Context& ctx, const Tensors& t) {
            return SoftmaxSliceMax(ctx, t[0], slice, t[1]);
          }};
}

OpCheck SoftmaxSliceSumsCheck(const OpCall& call) {
  const double width = static_cast<double>(call.ShapeOf("logits")[1]);
  return {.tensors = {In(call, "logits"), In(call, "max", 3, 0.1), Out(call, "sums", {width, 8}),
                      Targets(call)},
          .run = [slice = SliceOf(call)](const Context& ctx, const Tensors& t) {
            return SoftmaxSliceSums(ctx, t[0], t[3], slice, t[1], t[2]);
          }};
}

OpCheck SoftmaxFromSumsCheck(const OpCall& call) {
  return {.tensors = {In(call, "max", 3, 0.1), In(call, "sums", 8, 0.5), Out(call, "loss", {0, 4}),
                      Out(call, "lse", {0, 4}), Targets(call, /*vocab_size=*/1)},
          .run = [](const Context& ctx, const Tensors& t) {
            return SoftmaxCrossEntropyFromSums(ctx, t[4], t[0], t[1], t[2], t[3]);
          }};
}

}  // namespace strake
