// A bigram model of bytes on single targets of Strake: the next byte's logits are one linear layer
// of the present byte. Prints a falling loss, and exits 1 if it does not fall.
//
//   bazel run //:main [-- /absolute/path/of/a/text]
#include <cstdint>
#include <iostream>

#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/ops/copy/copy.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/tensor/tensor.h"
#include "data/data_loader.h"
#include "data/token_stream.h"
#include "optim/adamw.h"

namespace {

using namespace strake;

constexpr int64_t kVocabSize = 256;
constexpr int64_t kBatch = 8;
constexpr int64_t kSeqLen = 32;
constexpr int64_t kNumTokens = kBatch * kSeqLen;
constexpr int kSteps = 100;

// Forward and backward pass of one batch: weight gradients +=; returns the mean loss in nats.
absl::StatusOr<float> ForwardBackward(const Context& ctx, const Linear& linear,
                                      const Tensor& tokens, const Tensor& targets) {
  ActivationArena& arena = ctx.arena();
  const Tensor x = arena.Allocate(DType::kF32, {kNumTokens, kVocabSize});
  for (int64_t n = 0; n < kNumTokens; ++n) {
    for (int64_t v = 0; v < kVocabSize; ++v) {
      x.data<float>()[n * kVocabSize + v] = v == tokens.data<int32_t>()[n];
    }
  }
  LinearSaved saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits, linear.Forward(ctx, x, &saved));

  const Tensor loss = arena.Allocate(DType::kF32, {kNumTokens});
  const Tensor lse = arena.Allocate(DType::kF32, {kNumTokens});
  STRAKE_RETURN_IF_ERROR(SoftmaxCrossEntropyForward(ctx, logits, targets, kVocabSize, loss, lse));
  float sum = 0;
  for (int64_t n = 0; n < kNumTokens; ++n) sum += loss.data<float>()[n];

  // In place: from here on `logits` holds the gradient of the mean loss.
  STRAKE_RETURN_IF_ERROR(SoftmaxCrossEntropyBackward(
      ctx, targets, lse, 1.0 / kNumTokens, /*softcap=*/0, {.vocab_size = kVocabSize}, logits));
  // A layer below would be given dx; started first, so that a reduction over ranks can run beside
  // the weight pass.
  Pending<Tensor> pending_dx = linear.BackwardInput(ctx, logits, &saved);
  STRAKE_RETURN_IF_ERROR(linear.BackwardWeight(ctx, logits, saved));
  STRAKE_RETURN_IF_ERROR(pending_dx.Wait().status());
  return sum / kNumTokens;
}

absl::Status Train(const char* path) {
  STRAKE_ASSIGN_OR_RETURN(const TokenStream stream, TokenStream::Open({path}, kVocabSize));
  STRAKE_ASSIGN_OR_RETURN(
      const DataLoader loader,
      DataLoader::Create(&stream, 0, stream.num_tokens(), {.seq_len = kSeqLen, .seed = 1}));

  ParameterArena parameters;
  Parameter* weight = parameters.Add({{"weight", kVocabSize}}, {kVocabSize, kVocabSize}, true);
  Parameter* bias = parameters.Add({{"bias", kVocabSize}}, {kVocabSize}, false);
  STRAKE_RETURN_IF_ERROR(parameters.Allocate(DType::kF32, /*with_gradients=*/true));
  const Linear linear(weight, bias);
  STRAKE_ASSIGN_OR_RETURN(AdamW adamw,
                          AdamW::Create(parameters, {{.begin = 0, .values = parameters.grads()}}));

  ThreadTeam team(NumUsableCores());
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(16 << 20));
  const Context ctx(&team, &arena);
  const Tensor tokens = arena.Allocate(DType::kI32, {kNumTokens});
  const Tensor targets = arena.Allocate(DType::kI32, {kNumTokens});

  float first_loss = 0;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const ActivationScope scope(arena);
    STRAKE_RETURN_IF_ERROR(loader.Load((step - 1) * kBatch, kBatch, tokens, targets));
    STRAKE_RETURN_IF_ERROR(SetZero(ctx, parameters.grads()));
    STRAKE_ASSIGN_OR_RETURN(const float loss, ForwardBackward(ctx, linear, tokens, targets));
    adamw.SetStep({.lr = 0.05, .weight_decay = 0.01, .step = step});
    STRAKE_RETURN_IF_ERROR(adamw.Step(ctx, /*clip=*/Tensor()));

    if (step == 1) first_loss = loss;
    if (step == 1 || step % 20 == 0) std::cout << "step " << step << "  loss " << loss << "\n";
    // A uniform guess costs log(256) = 5.5; English by bigrams, about 2.5.
    if (step == kSteps && !(loss < 0.6f * first_loss)) {
      return absl::InternalError("the loss did not fall");
    }
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status status = Train(argc > 1 ? argv[1] : "README.md");
  if (!status.ok()) std::cerr << "error: " << status << "\n";
  return status.ok() ? 0 : 1;
}
