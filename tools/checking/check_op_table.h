// OpTable: what ModelOps() is made by; mirrors models/.
//
// Each op of a model has a function that adds its forward call, one that adds its backward call,
// and a place in the order of both passes (check_model_ops.cc). A part of a layer is called as in
// models/: "qkv", "mlp up".
#ifndef STRAKE_TOOLS_CHECKING_CHECK_OP_TABLE_H_
#define STRAKE_TOOLS_CHECKING_CHECK_OP_TABLE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"
#include "models/model_config.h"
#include "parallel/tensor/shard.h"
#include "tools/checking/check_op.h"
#include "train/engine/engine_options.h"

namespace strake {

using Tensors = std::vector<Tensor>;

// The scales of a model that has just been made: a residual stream of unit variance that is not
// centred, weights as small as initial ones.
inline constexpr double kResidualMean = 0.5;
inline constexpr double kWeightStddev = 0.02;

// See OpTensor.
struct Rounding {
  double num_terms = 0, num_roundings = 0, num_stores = 0;
};
inline constexpr Rounding kExact = {};

inline OpTensor In(const char* name, Shape shape, double mean = 0, double stddev = 1) {
  return {.name = name, .shape = std::move(shape), .mean = mean, .stddev = stddev};
}
inline OpTensor Out(const char* name, Shape shape, Rounding rounding) {
  return {.name = name,
          .shape = std::move(shape),
          .role = OpRole::kOutput,
          .num_terms = rounding.num_terms,
          .num_roundings = rounding.num_roundings,
          .num_stores = rounding.num_stores};
}
inline OpTensor InOut(OpTensor in, Rounding rounding) {
  in.role = OpRole::kInOut;
  in.num_terms = rounding.num_terms;
  in.num_roundings = rounding.num_roundings;
  in.num_stores = rounding.num_stores;
  return in;
}
// One of those that bf16 models have in f32.
inline OpTensor Sum(OpTensor tensor) {
  tensor.dtype = OpDType::kSum;
  return tensor;
}
inline OpTensor F64(OpTensor tensor) {
  tensor.dtype = OpDType::kF64;
  return tensor;
}
inline OpTensor Tokens(const char* name, const Tensor& tokens) {
  return {.name = name, .shape = tokens.shape(), .tokens = tokens};
}
inline OpTensor Weight(const char* name, Shape shape) {
  return In(name, std::move(shape), 0, kWeightStddev);
}
// A parameter's gradient, which is added to.
inline OpTensor Grad(const char* name, Shape shape, double num_terms, double num_roundings = 3) {
  return Sum(InOut(In(name, std::move(shape)), {num_terms, num_roundings}));
}

// A linear layer's product: its weight stored [out, in], a bias, a GELU behind it (forward) or in
// front of it (backward).
struct ProductKind {
  bool transposed = false, bias = false, gelu = false;
  int64_t rows = 0;  // those of all tokens, unless given
};

class OpTable {
 public:
  // As ModelOps().
  OpTable(const EngineOptions& options, int tp, const Tensor& tokens, const Tensor& targets);

  std::vector<OpCheck> Build();

 private:
  void Forward();
  void Backward();
  void Optimizer();

  int64_t attention_width() const { return heads_.num_heads * heads_.head_dim; }
  int64_t qkv_width() const { return (heads_.num_heads + 2 * heads_.num_kv_heads) * c_.head_dim; }
  int64_t mlp_width() const { return c_.intermediate_size / tp_; }
  int64_t up_width() const { return mlp_width() * (gpt2_ ? 1 : 2); }
  int64_t vocab_width() const { return VocabShard(c_.vocab_size, tp_, 0).held.size(); }

  void Add(OpCheck check, const std::string& variant = "");
  // body(rank, num_calls) for the first rank, and the last, whose calls are not counted.
  template <typename Body>
  void ForEndRanks(const Body& body) {
    body(0, 1);
    if (tp_ > 1) body(tp_ - 1, 0);
  }
  VocabSlice Slice(int rank) const {
    return {.vocab_size = c_.vocab_size, .begin = VocabShard(c_.vocab_size, tp_, rank).held.begin};
  }

  OpTensor Targets() const { return Tokens("targets", targets_.Rows(0, loss_n_)); }
  std::string At(const char* layer, int rank) const {
    return rank == 0 ? layer : absl::StrCat(layer, " of the last rank");
  }

  void AddEmbedding();
  void AddNorm(const std::string& layer, int64_t num_calls, bool residual);
  void AddProduct(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                  ProductKind kind);
  void AddRowParallelProduct(const std::string& layer, int64_t in);
  void AddBias(const std::string& layer, int64_t rows, int64_t columns);
  void AddRope(Pass pass);
  void AddAttention();
  void AddActivation();
  void AddLoss();
  void AddSlicedLoss();
  void AddLossGradient();
  void AddLossAndGradient();
  void AddLossSum();

  void AddProductBackward(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                          ProductKind kind);
  void AddProductInput(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                       ProductKind kind);
  void AddProductWeight(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                        ProductKind kind = {});
  void AddBiasBackward(const std::string& layer, int64_t rows, int64_t columns);
  void AddNormBackward(const std::string& layer, int64_t num_calls, bool accumulate);
  void AddAttentionBackward();
  void AddActivationBackward();
  void AddEmbeddingBackward();

  void AddClipping();
  void AddAdamW(const std::string& layer, Shape shape, bool weight_decay);

  const ModelConfig& c_;
  const bool gpt2_;
  const bool bf16_;
  const int tp_;
  const Tensor tokens_, targets_;
  const int64_t seq_len_;
  const int64_t n_;        // tokens of a micro-batch
  const int64_t local_n_;  // those of the rank's residual stream
  const int64_t layers_;
  const int64_t loss_n_;      // tokens of a chunk of logits
  const int64_t num_chunks_;  // the last of which may be smaller
  AttentionShape heads_;

  std::vector<OpCheck> checks_;
  absl::flat_hash_map<std::string, size_t> index_;  // in checks_, by KeyOf()
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_OP_TABLE_H_
