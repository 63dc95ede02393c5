#include "tools/checking/check_model_ops.h"

#include "tools/checking/check_op_table.h"

namespace strake {

void OpTable::Forward() {
  AddEmbedding();
  AddNorm("first attention norm", 1, /*residual=*/false);
  if (layers_ > 1) AddNorm("attention norm", layers_ - 1, /*residual=*/true);
  AddProduct("qkv", layers_, c_.hidden_size, qkv_width(), {.bias = gpt2_});
  AddRope(Pass::kForward);
  AddAttention();
  AddRowParallelProduct("attention out", attention_width());
  AddNorm("mlp norm", layers_, /*residual=*/true);
  AddProduct("mlp up", layers_, c_.hidden_size, up_width(), {.bias = gpt2_, .gelu = gpt2_});
  if (!gpt2_) AddActivation();
  AddRowParallelProduct("mlp down", mlp_width());
  AddNorm("last norm", 1, /*residual=*/true);
  // Chunk by chunk, with the gradient of the logits at once.
  const ProductKind head = {.transposed = true, .rows = loss_n_};
  AddProduct("head", num_chunks_, c_.hidden_size, vocab_width(), head);
  if (tp_ == 1) AddLoss();
  if (tp_ > 1) AddSlicedLoss();
  AddLossGradient();
  if (tp_ == 1) AddLossAndGradient();
  AddProductBackward("head", num_chunks_, c_.hidden_size, vocab_width(), head);
  AddLossSum();
}

void OpTable::Backward() {
  AddNormBackward("last norm", 1, /*accumulate=*/false);
  // A row-parallel layer's input gradient comes before its bias, a column-parallel layer's too.
  AddProductInput("mlp down", layers_, mlp_width(), c_.hidden_size, {.gelu = gpt2_});
  AddBiasBackward("mlp down", local_n_, c_.hidden_size);
  AddProductWeight("mlp down", layers_, mlp_width(), c_.hidden_size);
  if (!gpt2_) AddActivationBackward();
  AddProductInput("mlp up", layers_, c_.hidden_size, up_width(), {});
  AddBiasBackward("mlp up", n_, up_width());
  AddProductWeight("mlp up", layers_, c_.hidden_size, up_width());
  AddNormBackward("mlp norm", layers_, /*accumulate=*/true);
  AddProductInput("attention out", layers_, attention_width(), c_.hidden_size, {});
  AddBiasBackward("attention out", local_n_, c_.hidden_size);
  AddProductWeight("attention out", layers_, attention_width(), c_.hidden_size);
  AddAttentionBackward();
  AddRope(Pass::kBackward);
  AddProductInput("qkv", layers_, c_.hidden_size, qkv_width(), {});
  AddBiasBackward("qkv", n_, qkv_width());
  AddProductWeight("qkv", layers_, c_.hidden_size, qkv_width());
  AddNormBackward("attention norm", layers_, /*accumulate=*/true);
  AddEmbeddingBackward();
}

// AdamW works on neighbours with the same weight decay; here on the largest parameter, and on a
// norm's weight.
void OpTable::Optimizer() {
  AddClipping();
  AddAdamW("matrices", {vocab_width(), c_.hidden_size}, /*weight_decay=*/true);
  AddAdamW("norms", {c_.hidden_size}, /*weight_decay=*/false);
}

std::vector<OpCheck> ModelOps(const EngineOptions& options, int tp, const Tensor& tokens,
                              const Tensor& targets) {
  return OpTable(options, tp, tokens, targets).Build();
}

}  // namespace strake
