#include <cmath>

#include "core/ops/embedding/embedding.h"
#include "core/ops/embedding/position_embedding.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/ops/sum/sum.h"
#include "tools/checking/check_op_table.h"

namespace strake {

void OpTable::AddEmbedding() {
  const int64_t c = c_.hidden_size;
  ForEndRanks([&](int rank, int64_t num_calls) {
    const VocabSlice slice = Slice(rank);
    Add({.op = "embedding",
         .layers = At("tokens", rank),
         .num_calls = num_calls,
         .tensors = {Weight("table", {vocab_width(), c}), Out("y", {n_, c}, kExact),
                     Tokens("tokens", tokens_)},
         .run = [slice](
                    const Context& ctx,
                    const Tensors& t) { return EmbeddingForward(ctx, t[2], slice, t[0], t[1]); }},
        absl::StrCat(slice.begin));
  });
  if (!gpt2_) return;
  ForEndRanks([&](int rank, int64_t num_calls) {
    const int64_t offset = local_n_ < n_ ? rank * local_n_ : 0;
    Add({.op = "position_embedding",
         .layers = At("positions", rank),
         .num_calls = num_calls,
         .tensors = {Weight("positions", {c_.max_positions, c}),
                     InOut(Weight("y", {local_n_, c}), {0, 1})},
         .run =
             [period = seq_len_, offset](const Context& ctx, const Tensors& t) {
               return PositionEmbeddingForward(ctx, t[0], period, offset, t[1]);
             }},
        absl::StrCat(offset % seq_len_));
  });
}

// All tokens may be the same one.
void OpTable::AddEmbeddingBackward() {
  const int64_t c = c_.hidden_size;
  if (gpt2_) {
    ForEndRanks([&](int rank, int64_t num_calls) {
      const int64_t offset = local_n_ < n_ ? rank * local_n_ : 0;
      Add({.op = "position_embedding",
           .pass = Pass::kBackward,
           .layers = At("positions", rank),
           .num_calls = num_calls,
           .tensors = {In("dy", {local_n_, c}),
                       Grad("dpositions", {c_.max_positions, c}, static_cast<double>(local_n_))},
           .run =
               [period = seq_len_, offset](const Context& ctx, const Tensors& t) {
                 return PositionEmbeddingBackward(ctx, t[0], period, offset, t[1]);
               }},
          absl::StrCat(offset % seq_len_));
    });
  }
  ForEndRanks([&](int rank, int64_t num_calls) {
    const VocabSlice slice = Slice(rank);
    Add({.op = "embedding",
         .pass = Pass::kBackward,
         .layers = At("tokens", rank),
         .num_calls = num_calls,
         .tensors = {In("dy", {n_, c}), Grad("dtable", {vocab_width(), c}, static_cast<double>(n_)),
                     Tokens("tokens", tokens_)},
         .run = [slice](
                    const Context& ctx,
                    const Tensors& t) { return EmbeddingBackward(ctx, t[0], t[2], slice, t[1]); }},
        absl::StrCat(slice.begin));
  });
}

// A sum of exponentials, which is positive, and a logarithm.
void OpTable::AddLoss() {
  const Rounding rounding = {static_cast<double>(c_.vocab_size), 8};
  Add({.op = "softmax_cross_entropy",
       .layers = "loss",
       .num_calls = num_chunks_,
       .tensors = {In("logits", {loss_n_, vocab_width()}), Sum(Out("loss", {loss_n_}, rounding)),
                   Sum(Out("lse", {loss_n_}, rounding)), Targets()},
       .run = [vocab_size = c_.vocab_size](const Context& ctx, const Tensors& t) {
         return SoftmaxCrossEntropyForward(ctx, t[0], t[3], vocab_size, t[1], t[2]);
       }});
}

void OpTable::AddSlicedLoss() {
  const int64_t v = vocab_width();
  ForEndRanks([&](int rank, int64_t num_calls) {
    Add({.op = "softmax_slice_max",
         .layers = At("loss", rank),
         .num_calls = num_calls * num_chunks_,
         .tensors = {In("logits", {loss_n_, v}), Sum(Out("max", {loss_n_}, kExact))},
         .run = [slice = Slice(rank)](
                    const Context& ctx,
                    const Tensors& t) { return SoftmaxSliceMax(ctx, t[0], slice, t[1]); }},
        absl::StrCat(rank));
  });
  ForEndRanks([&](int rank, int64_t num_calls) {
    Add({.op = "softmax_slice_sums",
         .layers = At("loss", rank),
         .num_calls = num_calls * num_chunks_,
         .tensors = {In("logits", {loss_n_, v}), Sum(In("max", {loss_n_}, 3, 0.1)),
                     Sum(Out("sums", {2, loss_n_}, {static_cast<double>(v), 8})), Targets()},
         .run =
             [slice = Slice(rank)](const Context& ctx, const Tensors& t) {
               return SoftmaxSliceSums(ctx, t[0], t[3], slice, t[1], t[2]);
             }},
        absl::StrCat(rank));
  });
  Add({.op = "softmax_from_sums",
       .layers = "loss",
       .num_calls = num_chunks_,
       .tensors = {Sum(In("max", {loss_n_}, 3, 0.1)), Sum(In("sums", {2, loss_n_}, 8, 0.5)),
                   Sum(Out("loss", {loss_n_}, {0, 4})), Sum(Out("lse", {loss_n_}, {0, 4}))},
       .run = [](const Context& ctx, const Tensors& t) {
         return SoftmaxCrossEntropyFromSums(ctx, t[0], t[1], t[2], t[3]);
       }});
}

// The loss and its gradient at once: one kernel, by the definitions the two ops before it, which
// are counted.
void OpTable::AddLossAndGradient() {
  const double width = static_cast<double>(c_.vocab_size);
  const Rounding rounding = {width, 8};
  Add({.op = "softmax_cross_entropy",
       .layers = "loss",
       .tensors = {InOut(In("logits", {loss_n_, vocab_width()}), {width, 16 + std::log(width)}),
                   Sum(Out("loss", {loss_n_}, rounding)), Sum(Out("lse", {loss_n_}, rounding)),
                   Targets()},
       .run = [vocab_size = c_.vocab_size, scale = 1.0 / n_](const Context& ctx, const Tensors& t) {
         return SoftmaxCrossEntropyForwardBackward(ctx, t[3], vocab_size, scale, t[0], t[1], t[2]);
       }});
}

// Summed in double.
void OpTable::AddLossSum() {
  Add({.op = "sum",
       .layers = "loss",
       .num_calls = 1,
       .tensors = {Sum(In("losses", {n_}, std::log(static_cast<double>(c_.vocab_size)))),
                   F64(InOut(In("total", {1}), {0, 1}))},
       .run = [](const Context& ctx, const Tensors& t) { return AddSum(ctx, t[0], t[1]); }});
}

// A relative error of a probability is an absolute error of logit and lse, which are a few units.
void OpTable::AddLossGradient() {
  const double log_vocab = std::log(static_cast<double>(c_.vocab_size));
  ForEndRanks([&](int rank, int64_t num_calls) {
    Add({.op = "softmax_cross_entropy",
         .pass = Pass::kBackward,
         .layers = At("loss", rank),
         .num_calls = num_calls * num_chunks_,
         .tensors = {Sum(In("lse", {loss_n_}, log_vocab + 0.5, 0.1)),
                     InOut(In("logits", {loss_n_, vocab_width()}), {0, 8 + log_vocab}), Targets()},
         .run =
             [slice = Slice(rank), scale = 1.0 / n_](const Context& ctx, const Tensors& t) {
               return SoftmaxCrossEntropyBackward(ctx, t[2], t[0], scale, slice, t[1]);
             }},
        absl::StrCat(rank));
  });
}

}  // namespace strake
