#include "tools/check_model_ops.h"

#include "tools/check_op_table.h"

namespace strake {

void OpTable::Forward() {
  AddEmbedding();
  AddNorm("attention norm", layers_);
  AddProduct("qkv", layers_, c_.hidden_size, qkv_width(), false);
  AddBias("qkv", n_, qkv_width());
  AddRope(Pass::kForward);
  AddAttention();
  AddProduct("attention out", layers_, attention_width(), c_.hidden_size, false);
  AddBias("attention out", local_n_, c_.hidden_size);
  AddResidual("attention");
  AddNorm("mlp norm", layers_);
  AddProduct("mlp up", layers_, c_.hidden_size, up_width(), false);
  AddBias("mlp up", n_, up_width());
  AddActivation();
  AddProduct("mlp down", layers_, mlp_width(), c_.hidden_size, false);
  AddBias("mlp down", local_n_, c_.hidden_size);
  AddResidual("mlp");
  AddNorm("last norm", 1);
  AddProduct("head", 1, c_.hidden_size, vocab_width(), true);
  if (tp_ == 1) AddLoss();
  if (tp_ > 1) AddSlicedLoss();
}

void OpTable::Backward() {
  AddLossBackward();
  AddProductBackward("head", 1, c_.hidden_size, vocab_width(), true);
  AddNormBackward("last norm", 1, /*accumulate=*/false);
  // A row-parallel layer's input gradient comes before its bias, a column-parallel layer's too.
  AddProductInput("mlp down", layers_, mlp_width(), c_.hidden_size, false);
  AddBiasBackward("mlp down", local_n_, c_.hidden_size);
  AddProductWeight("mlp down", layers_, mlp_width(), c_.hidden_size, false);
  AddActivationBackward();
  AddProductInput("mlp up", layers_, c_.hidden_size, up_width(), false);
  AddBiasBackward("mlp up", n_, up_width());
  AddProductWeight("mlp up", layers_, c_.hidden_size, up_width(), false);
  AddNormBackward("mlp norm", layers_, /*accumulate=*/true);
  AddProductInput("attention out", layers_, attention_width(), c_.hidden_size, false);
  AddBiasBackward("attention out", local_n_, c_.hidden_size);
  AddProductWeight("attention out", layers_, attention_width(), c_.hidden_size, false);
  AddAttentionBackward();
  AddRope(Pass::kBackward);
  AddProductInput("qkv", layers_, c_.hidden_size, qkv_width(), false);
  AddBiasBackward("qkv", n_, qkv_width());
  AddProductWeight("qkv", layers_, c_.hidden_size, qkv_width(), false);
  AddNormBackward("attention norm", layers_, /*accumulate=*/true);
  AddEmbeddingBackward();
}

std::vector<OpCheck> ModelOps(const EngineOptions& options, int tp, const Tensor& tokens,
                              const Tensor& targets) {
  return OpTable(options, tp, tokens, targets).Build();
}

}  // namespace strake
