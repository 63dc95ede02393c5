// One op of Strake in a project that has an abseil of its own: the loss of a uniform guess among V
// classes, which is log V. Exits 1 if it is not.
//
//   bazel run //:main
#include <cmath>
#include <iostream>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/tensor/tensor.h"

namespace {

using namespace strake;

constexpr int64_t kNumTokens = 4, kVocabSize = 32;

absl::Status Run() {
  ThreadTeam team(NumUsableCores());
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(1 << 20));
  const Context ctx(&team, &arena);

  const Tensor logits = arena.Allocate(DType::kF32, {kNumTokens, kVocabSize});
  for (int64_t i = 0; i < logits.num_elements(); ++i) logits.data<float>()[i] = 1;
  const Tensor targets = arena.Allocate(DType::kI32, {kNumTokens});
  for (int64_t n = 0; n < kNumTokens; ++n) targets.data<int32_t>()[n] = n;

  const Tensor loss = arena.Allocate(DType::kF32, {kNumTokens});
  const Tensor lse = arena.Allocate(DType::kF32, {kNumTokens});
  STRAKE_RETURN_IF_ERROR(SoftmaxCrossEntropyForward(ctx, logits, targets, kVocabSize, loss, lse));
  for (int64_t n = 0; n < kNumTokens; ++n) {
    const float got = loss.data<float>()[n], expected = std::log(float{kVocabSize});
    std::cout << absl::StrFormat("token %d: loss %.4f, log(%d) = %.4f\n", n, got, kVocabSize,
                                 expected);
    if (std::abs(got - expected) > 1e-5f) return absl::InternalError("the loss is not log V");
  }
  return absl::OkStatus();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << "error: " << status << "\n";
  return status.ok() ? 0 : 1;
}
