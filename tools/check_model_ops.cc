#include "tools/check_model_ops.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/ops/bias_add.h"
#include "core/ops/causal_attention.h"
#include "core/ops/embedding.h"
#include "core/ops/gelu.h"
#include "core/ops/layer_norm.h"
#include "core/ops/matmul.h"
#include "core/ops/position_embedding.h"
#include "core/ops/residual_add.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/softmax_cross_entropy.h"
#include "core/ops/swiglu.h"
#include "core/tensor/tensor_buffer.h"
#include "glog/logging.h"
#include "models/model_config.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

using Tensors = std::vector<Tensor>;

// The scales of a model that has just been made: a residual stream of unit variance that is not
// centred, weights as small as initial ones.
constexpr double kResidualMean = 0.5;
constexpr double kWeightStddev = 0.02;

struct Rounding {
  double num_terms, num_roundings;
};
constexpr Rounding kExact = {0, 0};

OpTensor In(const char* name, Shape shape, double mean = 0, double stddev = 1) {
  return {.name = name, .shape = std::move(shape), .mean = mean, .stddev = stddev};
}
OpTensor Out(const char* name, Shape shape, Rounding rounding) {
  return {.name = name,
          .shape = std::move(shape),
          .role = OpRole::kOutput,
          .num_terms = rounding.num_terms,
          .num_roundings = rounding.num_roundings};
}
OpTensor InOut(OpTensor in, Rounding rounding) {
  in.role = OpRole::kInOut;
  in.num_terms = rounding.num_terms;
  in.num_roundings = rounding.num_roundings;
  return in;
}
OpTensor Weight(const char* name, Shape shape) {
  return In(name, std::move(shape), 0, kWeightStddev);
}
// A gradient that is added to.
OpTensor Grad(const char* name, Shape shape, double num_terms, double num_roundings = 3) {
  return InOut(In(name, std::move(shape)), {num_terms, num_roundings});
}

// What tells apart two calls of an op, but for who makes them.
std::string KeyOf(const OpCheck& check, const std::string& variant) {
  std::string key = absl::StrCat(check.op, " ", PassName(check.pass), " ", variant);
  for (const OpTensor& tensor : check.tensors) {
    absl::StrAppend(&key, " ", tensor.name, static_cast<int>(tensor.role),
                    ShapeString(tensor.shape));
  }
  return key;
}

// Mirrors models/: one function for each part of a layer and pass.
class Table {
 public:
  Table(const EngineOptions& options, int tp, const Tensor& tokens, const Tensor& targets)
      : c_(options.model),
        gpt2_(c_.family == ModelFamily::kGpt2),
        tp_(tp),
        tokens_(tokens),
        targets_(targets),
        seq_len_(options.seq_len),
        n_(options.seq_len * options.micro_batch),
        local_n_(options.sequence_parallel ? n_ / tp : n_),
        layers_(c_.num_layers) {
    const auto heads = AttentionHeadShard(c_.num_heads, c_.num_kv_heads, tp, /*rank=*/0);
    CHECK(heads.ok()) << heads.status();
    heads_ = {options.micro_batch, seq_len_, heads->query.size(), heads->key_value.range.size(),
              c_.head_dim};
    if (!gpt2_) {
      rope_table_ = std::make_shared<TensorBuffer>(DType::kF64, Shape{seq_len_, c_.head_dim});
      RopeTable(c_.rope, *rope_table_);
    }
  }

  std::vector<OpCheck> Build() {
    Forward();
    Backward();
    return std::move(checks_);
  }

 private:
  void Forward();
  void Backward();

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

  std::string At(const char* layer, int rank) const {
    return rank == 0 ? layer : absl::StrCat(layer, " of the last rank");
  }

  void AddEmbedding();
  void AddNorm(const std::string& layer, int64_t num_calls);
  void AddProduct(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                  bool transposed);
  void AddBias(const std::string& layer, int64_t rows, int64_t columns);
  void AddRope(Pass pass);
  void AddAttention();
  void AddResidual(const std::string& layer);
  void AddActivation();
  void AddLoss();
  void AddSlicedLoss();

  void AddLossBackward();
  void AddProductBackward(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                          bool transposed);
  void AddProductInput(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                       bool transposed);
  void AddProductWeight(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                        bool transposed);
  void AddBiasBackward(const std::string& layer, int64_t rows, int64_t columns);
  void AddNormBackward(const std::string& layer, int64_t num_calls, bool accumulate);
  void AddAttentionBackward();
  void AddActivationBackward();
  void AddEmbeddingBackward();

  const ModelConfig& c_;
  const bool gpt2_;
  const int tp_;
  const Tensor tokens_, targets_;
  const int64_t seq_len_;
  const int64_t n_;        // tokens of a micro-batch
  const int64_t local_n_;  // those of the rank's residual stream
  const int64_t layers_;
  AttentionShape heads_;
  std::shared_ptr<TensorBuffer> rope_table_;

  std::vector<OpCheck> checks_;
  absl::flat_hash_map<std::string, size_t> index_;  // in checks_, by KeyOf()
};

void Table::Add(OpCheck check, const std::string& variant) {
  const auto [it, is_new] = index_.emplace(KeyOf(check, variant), checks_.size());
  if (is_new) {
    checks_.push_back(std::move(check));
    return;
  }
  OpCheck& known = checks_[it->second];
  known.num_calls += check.num_calls;
  const std::vector<std::string> callers = absl::StrSplit(known.layers, ", ");
  for (const std::string& caller : callers) {
    if (caller == check.layers) return;
  }
  absl::StrAppend(&known.layers, ", ", check.layers);
}

void Table::Forward() {
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

void Table::Backward() {
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

void Table::AddEmbedding() {
  const int64_t c = c_.hidden_size;
  ForEndRanks([&](int rank, int64_t num_calls) {
    const VocabSlice slice = Slice(rank);
    Add({.op = "embedding",
         .layers = At("tokens", rank),
         .num_calls = num_calls,
         .tensors = {Weight("table", {vocab_width(), c}), Out("y", {n_, c}, kExact)},
         .run = [tokens = tokens_, slice](
                    const Context& ctx,
                    const Tensors& t) { return EmbeddingForward(ctx, tokens, slice, t[0], t[1]); }},
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

// Means over a row, and a few operations on each element.
void Table::AddNorm(const std::string& layer, int64_t num_calls) {
  const int64_t n = local_n_, c = c_.hidden_size;
  const double width = static_cast<double>(c), eps = c_.norm_eps;
  const OpTensor x = In("x", {n, c}, kResidualMean), weight = In("weight", {c}, 1, 0.1);
  const OpTensor y = Out("y", {n, c}, {width, 8}), rstd = Out("rstd", {n}, {width, 8});
  if (!gpt2_) {
    Add({.op = "rms_norm",
         .layers = layer,
         .num_calls = num_calls,
         .tensors = {x, weight, y, rstd},
         .run = [eps](const Context& ctx, const Tensors& t) {
           return RmsNormForward(ctx, t[0], t[1], eps, t[2], t[3]);
         }});
    return;
  }
  Add({.op = "layer_norm",
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {x, weight, In("bias", {c}, 0, 0.1), y, Out("mean", {n}, {width, 8}), rstd},
       .run = [eps](const Context& ctx, const Tensors& t) {
         return LayerNormForward(ctx, t[0], t[1], t[2], eps, t[3], t[4], t[5]);
       }});
}

Shape WeightShape(int64_t in, int64_t out, bool transposed) {
  return transposed ? Shape{out, in} : Shape{in, out};
}

void Table::AddProduct(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                       bool transposed) {
  Add({.op = "matmul",
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("x", {n_, in}), Weight("weight", WeightShape(in, out, transposed)),
                   Out("y", {n_, out}, {static_cast<double>(in), 3})},
       .run =
           [transposed](const Context& ctx, const Tensors& t) {
             return Matmul(ctx, t[0], t[1], {.transpose_b = transposed}, t[2]);
           }},
      transposed ? "transposed" : "");
}

void Table::AddBias(const std::string& layer, int64_t rows, int64_t columns) {
  if (!gpt2_) return;
  Add({.op = "bias_add",
       .layers = layer,
       .num_calls = layers_,
       .tensors = {In("bias", {columns}), InOut(In("y", {rows, columns}), {0, 1})},
       .run = [](const Context& ctx, const Tensors& t) {
         return BiasAddForward(ctx, t[1], t[0], t[1]);
       }});
}

void Table::AddRope(Pass pass) {
  if (gpt2_) return;
  const int64_t num_heads = heads_.num_heads + heads_.num_kv_heads;
  const char* name = pass == Pass::kForward ? "qkv" : "dqkv";
  Add({.op = "rope",
       .pass = pass,
       .layers = "attention",
       .num_calls = layers_,
       .tensors = {InOut(In(name, {n_, qkv_width()}), {0, 3})},
       .run = [table = rope_table_, num_heads, seq_len = seq_len_, pass](const Context& ctx,
                                                                         const Tensors& t) {
         if (pass == Pass::kBackward) return RopeBackward(ctx, *table, num_heads, seq_len, t[0]);
         return RopeForward(ctx, *table, num_heads, seq_len, /*position_offset=*/0, t[0]);
       }});
}

// A relative error of a probability is an absolute error of a score: a sum of D products, and so
// about sqrt(D) roundings, and a few of scale, shift and exponential, of numbers up to the largest
// score, which queries and keys of unit variance give a size of |q| |k| / sqrt(D), about sqrt(D).
// The sum over keys has T terms.
Rounding AttentionRounding(const AttentionShape& shape) {
  const double root = std::sqrt(static_cast<double>(shape.head_dim));
  return {static_cast<double>(shape.seq_len), (root + 4) * (1 + root)};
}

void Table::AddAttention() {
  const Rounding rounding = AttentionRounding(heads_);
  Add({.op = "causal_attention",
       .layers = "attention",
       .num_calls = layers_,
       .tensors = {In("qkv", {n_, qkv_width()}), Out("y", {n_, attention_width()}, rounding),
                   Out("lse", {heads_.batch, heads_.num_heads, seq_len_}, rounding)},
       .run = [shape = heads_](const Context& ctx, const Tensors& t) {
         return CausalAttentionForward(ctx, t[0], shape, t[1], t[2]);
       }});
}

void Table::AddResidual(const std::string& layer) {
  const Shape shape = {local_n_, c_.hidden_size};
  Add({.op = "residual_add",
       .layers = layer,
       .num_calls = layers_,
       .tensors = {In("x", shape), InOut(In("y", shape), {0, 1})},
       .run = [](const Context& ctx, const Tensors& t) {
         return ResidualAddForward(ctx, t[1], t[0], t[1]);
       }});
}

// An exponential and a few products for each element.
void Table::AddActivation() {
  const OpTensor u = In("u", {n_, up_width()}), y = Out("y", {n_, mlp_width()}, {0, 8});
  Add({.op = gpt2_ ? "gelu" : "swiglu",
       .layers = "mlp",
       .num_calls = layers_,
       .tensors = {u, y},
       .run = [gpt2 = gpt2_](const Context& ctx, const Tensors& t) {
         return gpt2 ? GeluForward(ctx, t[0], t[1]) : SwigluForward(ctx, t[0], t[1]);
       }});
}

// A sum of exponentials, which is positive, and a logarithm.
void Table::AddLoss() {
  const Rounding rounding = {static_cast<double>(c_.vocab_size), 8};
  Add({.op = "softmax_cross_entropy",
       .layers = "loss",
       .num_calls = 1,
       .tensors = {In("logits", {n_, c_.vocab_size}), Out("loss", {n_}, rounding),
                   Out("lse", {n_}, rounding)},
       .run = [targets = targets_](const Context& ctx, const Tensors& t) {
         return SoftmaxCrossEntropyForward(ctx, t[0], targets, t[1], t[2]);
       }});
}

void Table::AddSlicedLoss() {
  const int64_t v = vocab_width();
  ForEndRanks([&](int rank, int64_t num_calls) {
    Add({.op = "softmax_slice_max",
         .layers = At("loss", rank),
         .num_calls = num_calls,
         .tensors = {In("logits", {n_, v}), Out("max", {n_}, kExact)},
         .run = [slice = Slice(rank)](
                    const Context& ctx,
                    const Tensors& t) { return SoftmaxSliceMax(ctx, t[0], slice, t[1]); }},
        absl::StrCat(rank));
  });
  ForEndRanks([&](int rank, int64_t num_calls) {
    Add({.op = "softmax_slice_sums",
         .layers = At("loss", rank),
         .num_calls = num_calls,
         .tensors = {In("logits", {n_, v}), In("max", {n_}, 3, 0.1),
                     Out("sums", {2, n_}, {static_cast<double>(v), 8})},
         .run =
             [slice = Slice(rank), targets = targets_](const Context& ctx, const Tensors& t) {
               return SoftmaxSliceSums(ctx, t[0], targets, slice, t[1], t[2]);
             }},
        absl::StrCat(rank));
  });
  Add({.op = "softmax_from_sums",
       .layers = "loss",
       .num_calls = 1,
       .tensors = {In("max", {n_}, 3, 0.1), In("sums", {2, n_}, 8, 0.5), Out("loss", {n_}, {0, 4}),
                   Out("lse", {n_}, {0, 4})},
       .run = [](const Context& ctx, const Tensors& t) {
         return SoftmaxCrossEntropyFromSums(ctx, t[0], t[1], t[2], t[3]);
       }});
}

// A relative error of a probability is an absolute error of logit and lse, which are a few units.
void Table::AddLossBackward() {
  const double log_vocab = std::log(static_cast<double>(c_.vocab_size));
  ForEndRanks([&](int rank, int64_t num_calls) {
    Add({.op = "softmax_cross_entropy",
         .pass = Pass::kBackward,
         .layers = At("loss", rank),
         .num_calls = num_calls,
         .tensors = {In("lse", {n_}, log_vocab + 0.5, 0.1),
                     InOut(In("logits", {n_, vocab_width()}), {0, 8 + log_vocab})},
         .run =
             [slice = Slice(rank), targets = targets_, scale = 1.0 / n_](const Context& ctx,
                                                                         const Tensors& t) {
               return SoftmaxCrossEntropyBackward(ctx, targets, t[0], scale, slice, t[1]);
             }},
        absl::StrCat(rank));
  });
}

void Table::AddProductBackward(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                               bool transposed) {
  AddProductInput(layer, num_calls, in, out, transposed);
  AddProductWeight(layer, num_calls, in, out, transposed);
}

void Table::AddProductInput(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                            bool transposed) {
  Add({.op = "matmul",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("dy", {n_, out}), Weight("weight", WeightShape(in, out, transposed)),
                   Out("dx", {n_, in}, {static_cast<double>(out), 3})},
       .run =
           [transposed](const Context& ctx, const Tensors& t) {
             return Matmul(ctx, t[0], t[1], {.transpose_b = !transposed}, t[2]);
           }},
      transposed ? "transposed" : "");
}

void Table::AddProductWeight(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                             bool transposed) {
  Add({.op = "matmul",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("dy", {n_, out}), In("x", {n_, in}),
                   Grad("dweight", WeightShape(in, out, transposed), static_cast<double>(n_))},
       .run =
           [transposed](const Context& ctx, const Tensors& t) {
             const Tensor &left = transposed ? t[0] : t[1], &right = transposed ? t[1] : t[0];
             return Matmul(ctx, left, right, {.transpose_a = true, .accumulate = true}, t[2]);
           }},
      transposed ? "transposed" : "");
}

void Table::AddBiasBackward(const std::string& layer, int64_t rows, int64_t columns) {
  if (!gpt2_) return;
  Add({.op = "bias_add",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = layers_,
       .tensors = {In("dy", {rows, columns}), Grad("dbias", {columns}, static_cast<double>(rows))},
       .run = [](const Context& ctx, const Tensors& t) {
         return BiasAddBackward(ctx, t[0], t[1]);
       }});
}

// dy becomes dx in the last norm; in a block dx is what the residual stream's gradient adds up to.
void Table::AddNormBackward(const std::string& layer, int64_t num_calls, bool accumulate) {
  const int64_t n = local_n_, c = c_.hidden_size;
  const double width = static_cast<double>(c), rows = static_cast<double>(n), eps = c_.norm_eps;
  const Rounding rounding = {width, 8};
  OpCheck check = {.op = gpt2_ ? "layer_norm" : "rms_norm",
                   .pass = Pass::kBackward,
                   .layers = layer,
                   .num_calls = num_calls,
                   .tensors = {In("x", {n, c}, kResidualMean), In("weight", {c}, 1, 0.1),
                               In("rstd", {n}), Grad("dweight", {c}, rows, 8)}};
  check.tensors.push_back(accumulate ? In("dy", {n, c}) : InOut(In("dx", {n, c}), rounding));
  if (accumulate) check.tensors.push_back(InOut(In("dx", {n, c}), rounding));
  const size_t dx = check.tensors.size() - 1;
  if (!gpt2_) {
    check.prepare = [eps](const Context& ctx, const Tensors& t) {
      const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
      return RmsNormForward(ctx, t[0], t[1], eps, y, t[2]);
    };
    check.run = [accumulate, dx](const Context& ctx, const Tensors& t) {
      return RmsNormBackward(ctx, t[4], t[0], t[1], t[2], accumulate, t[dx], t[3]);
    };
    return Add(std::move(check));
  }
  check.tensors.push_back(In("mean", {n}));
  check.tensors.push_back(Grad("dbias", {c}, rows, 8));
  check.prepare = [eps, dx](const Context& ctx, const Tensors& t) {
    const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
    return LayerNormForward(ctx, t[0], t[1], t[1], eps, y, t[dx + 1], t[2]);
  };
  check.run = [accumulate, dx](const Context& ctx, const Tensors& t) {
    return LayerNormBackward(ctx, t[4], t[0], t[1], t[dx + 1], t[2], accumulate, t[dx], t[3],
                             t[dx + 2]);
  };
  Add(std::move(check));
}

// Two products deep: the rounding of dp comes on top of that of p.
void Table::AddAttentionBackward() {
  const Rounding rounding = AttentionRounding(heads_);
  Add({.op = "causal_attention",
       .pass = Pass::kBackward,
       .layers = "attention",
       .num_calls = layers_,
       .tensors = {In("dy", {n_, attention_width()}), In("qkv", {n_, qkv_width()}),
                   In("y", {n_, attention_width()}),
                   In("lse", {heads_.batch, heads_.num_heads, seq_len_}),
                   Out("dqkv", {n_, qkv_width()},
                       {4 * rounding.num_terms, 2 * rounding.num_roundings})},
       .run =
           [shape = heads_](const Context& ctx, const Tensors& t) {
             return CausalAttentionBackward(ctx, t[0], t[1], t[2], t[3], shape, t[4]);
           },
       .prepare =
           [shape = heads_](const Context& ctx, const Tensors& t) {
             return CausalAttentionForward(ctx, t[1], shape, t[2], t[3]);
           }});
}

// The gradient takes the place of u. GELU's slope has terms that all but cancel.
void Table::AddActivationBackward() {
  Add({.op = gpt2_ ? "gelu" : "swiglu",
       .pass = Pass::kBackward,
       .layers = "mlp",
       .num_calls = layers_,
       .tensors = {In("dy", {n_, mlp_width()}),
                   InOut(In("u", {n_, up_width()}), {0, gpt2_ ? 25.0 : 8.0})},
       .run = [gpt2 = gpt2_](const Context& ctx, const Tensors& t) {
         return gpt2 ? GeluBackward(ctx, t[0], t[1], t[1]) : SwigluBackward(ctx, t[0], t[1], t[1]);
       }});
}

// All tokens may be the same one.
void Table::AddEmbeddingBackward() {
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
         .tensors = {In("dy", {n_, c}),
                     Grad("dtable", {vocab_width(), c}, static_cast<double>(n_))},
         .run =
             [tokens = tokens_, slice](const Context& ctx, const Tensors& t) {
               return EmbeddingBackward(ctx, t[0], tokens, slice, t[1]);
             }},
        absl::StrCat(slice.begin));
  });
}

}  // namespace

std::vector<OpCheck> ModelOps(const EngineOptions& options, int tp, const Tensor& tokens,
                              const Tensor& targets) {
  return Table(options, tp, tokens, targets).Build();
}

}  // namespace strake
