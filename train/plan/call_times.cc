#include "train/plan/call_times.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/cuda/workspace_sizes.h"
#include "core/tensor/tensor.h"

namespace strake {
namespace {

using Rows = std::vector<CallTimeRow>;

// The kernels of an op's pass whose time is that of their bytes.
struct CopyClass {
  const char* row;
  int kernels;             // per call
  bool sums_rows = false;  // gradients are partial sums over rows, which a second kernel adds
};

struct OpClass {
  const char* op;
  CopyClass forward;  // without dy
  CopyClass backward;
};

// Every op of a step except products and attention.
constexpr OpClass kOps[] = {
    {"adamw", {"AdamW", 1}, {"AdamW", 1}},
    {"bias_add", {"bias", 1}, {.row = "bias gradients", .kernels = 2, .sums_rows = true}},
    {"cast", {"casts of gradients", 1}, {"casts of gradients", 1}},
    {"clip_scale", {"gradient norm", 1}, {"gradient norm", 1}},
    {"copy", {"copies", 1}, {"copies", 1}},
    {"copy_rows", {"copies", 1}, {"copies", 1}},
    {"embedding", {"embeddings", 1}, {"embeddings", 8}},
    {"geglu", {"GeGLU, forward", 1}, {"GeGLU, backward", 1}},
    {"geglu_erf", {"GeGLU, forward", 1}, {"GeGLU, backward", 1}},
    {"gelu", {"GELU", 1}, {"GELU", 1}},
    {"gelu_erf", {"GELU", 1}, {"GELU", 1}},
    {"layer_norm",
     {"norm, forward", 1},
     {.row = "norm, backward", .kernels = 2, .sums_rows = true}},
    {"position_embedding", {"embeddings", 1}, {"embeddings", 1}},
    {"qk_norm", {"norm, forward", 1}, {"norm, backward", 2}},
    {"qk_norm_sums", {"norm, forward", 1}, {"norm, backward", 1}},
    {"reglu", {"ReGLU, forward", 1}, {"ReGLU, backward", 1}},
    {"relu", {"ReLU", 1}, {"ReLU", 1}},
    {"residual_add",
     {"sums of gradients or activations", 1},
     {"sums of gradients or activations", 1}},
    {"rms_norm", {"norm, forward", 1}, {.row = "norm, backward", .kernels = 2, .sums_rows = true}},
    {"rope", {"RoPE", 1}, {"RoPE", 1}},
    {"scale",
     {"scales of activations and gradients", 1},
     {"scales of activations and gradients", 1}},
    {"set_zero", {"set to 0", 1}, {"set to 0", 1}},
    {"silu", {"SiLU", 1}, {"SiLU", 1}},
    {"softcap", {"soft caps of logits", 1}, {"soft caps of logits", 1}},
    {"softmax_cross_entropy", {"cross-entropy", 1}, {"cross-entropy", 1}},
    {"softmax_from_sums", {"cross-entropy", 1}, {"cross-entropy", 1}},
    {"softmax_slice_max", {"cross-entropy", 1}, {"cross-entropy", 1}},
    {"softmax_slice_sums", {"cross-entropy", 1}, {"cross-entropy", 1}},
    {"squared_norm", {"gradient norm", 2}, {"gradient norm", 2}},
    {"sum", {"sums of losses and norms", 1}, {"sums of losses and norms", 1}},
    {"swiglu", {"SwiGLU, forward", 1}, {"SwiGLU, backward", 1}},
};

bool Is(const OpCall& call, const char* op) { return std::strcmp(call.op, op) == 0; }

absl::Status NoRate(const OpCall& call, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("[call_times] no rate of ", call.ToString(), ": ", why));
}

// The op's own pass: recomputation calls forward ops in the backward pass of a step.
bool IsBackward(const OpCall& call) { return call.Has("dy"); }

const char* RateName(const GpuRates& rates, GpuRate rate) {
  return rates.rows()[static_cast<int>(rate)].name;
}

// --- Products ---

GpuRate ProductRate(const OpCall& call) {
  const OpOperand& c = *call.Find("c");
  const int64_t m = c.shape[0], n = c.shape[1];
  const auto k = static_cast<int64_t>(call.cost.flops / 2 / m / n);
  const bool f32 = c.dtype == DType::kF32;
  const int64_t narrow = f32 ? std::min(m, n) : std::min(n, k);
  if (call.layer == "head") return narrow < 1024 ? GpuRate::kSmallHead : GpuRate::kHead;
  if (narrow < 1024) return f32 ? GpuRate::kSmallWeightGradient : GpuRate::kSmallProduct;
  if (narrow < 2048) return f32 ? GpuRate::kMediumWeightGradient : GpuRate::kMediumProduct;
  return f32 ? GpuRate::kLargeWeightGradient : GpuRate::kLargeProduct;
}

absl::StatusOr<Rows> Product(const OpCall& call, const GpuRates& rates,
                             const StepRemedies& remedies) {
  if (call.Find("a")->dtype != DType::kBf16) return NoRate(call, "rates are of bf16");
  const GpuRate rate = ProductRate(call);
  Forecast flops = rates[rate];
  if (remedies.tuned_products) flops = flops * rates[GpuRate::kTuning];
  return Rows{{.name = RateName(rates, rate),
               .flops = call.cost.flops,
               .bytes = call.cost.bytes,
               .kernels = 1,
               .seconds = Max(call.cost.flops / flops, call.cost.bytes / rates[GpuRate::kCopy])}};
}

// --- Attention ---

struct Attention {
  explicit Attention(const OpCall& call)
      : shape(GetAttentionShape(call)), heads(shape.batch * shape.num_heads) {}

  // Of the forward and the backward pass. What makes long sequences faster is the number of tiles
  // that follow each other in one row, and a window bounds it.
  std::pair<GpuRate, GpuRate> Rates() const {
    const int64_t keys = shape.seq_len - shape.FirstKey(shape.seq_len - 1);
    const bool is_long = keys >= 4096;
    if (shape.head_dim == 64) {
      return is_long ? std::pair(GpuRate::kLongForward64, GpuRate::kLongBackward64)
                     : std::pair(GpuRate::kShortForward64, GpuRate::kShortBackward64);
    }
    return is_long ? std::pair(GpuRate::kLongForward128, GpuRate::kLongBackward128)
                   : std::pair(GpuRate::kShortForward128, GpuRate::kShortBackward128);
  }

  // dS in bf16, written by one kernel and read by the next, in tiles of 128 x 128. Those above the
  // diagonal, and before the window, need not move. Whether they do is not documented, so the low
  // figure has them.
  Forecast ScoreBytes() const {
    constexpr int64_t kTile = 128;
    const int64_t tiles = (shape.seq_len + kTile - 1) / kTile;
    int64_t kept = 0;
    for (int64_t row = 0; row < tiles; ++row) kept += row + 1 - shape.FirstKey(row * kTile) / kTile;
    const double tile_bytes = 2.0 * 2 * kTile * kTile * heads;
    return {tile_bytes * tiles * tiles, tile_bytes * kept, tile_bytes * kept};
  }

  // dQ in f32 instead: set to 0, and read to be rounded.
  double AtomicBytes() const { return 2.0 * 4 * heads * shape.seq_len * shape.head_dim; }

  // Keys and values have a gradient in bf16 for every query head, written and read to be added up.
  double GroupBytes() const {
    if (shape.num_heads == shape.num_kv_heads) return 0;
    return 2.0 * 2 * 2 * heads * shape.seq_len * shape.head_dim;
  }

  AttentionShape shape;
  int64_t heads;  // of the whole batch
};

absl::StatusOr<Rows> AttentionRows(const OpCall& call, const GpuRates& rates,
                                   const StepRemedies& remedies) {
  const Attention attention(call);
  const AttentionShape& shape = attention.shape;
  if (shape.head_dim != 64 && shape.head_dim != 128) {
    return NoRate(call, "rates of attention are of heads of 64 and 128");
  }
  if (shape.score_softcap != 0) return NoRate(call, "cuDNN is used for scores without a cap");
  if (call.Has("positions")) {
    return NoRate(call, "rates of attention are of sequences of one document");
  }
  if (call.Find("qkv")->dtype != DType::kBf16) return NoRate(call, "rates are of bf16");
  const bool backward = IsBackward(call);
  const auto [forward_rate, backward_rate] = attention.Rates();
  const Forecast& flops = rates[backward ? backward_rate : forward_rate];
  const Forecast& copy = rates[GpuRate::kCopy];
  Rows rows = {{.name = backward ? "attention, backward" : "attention, forward",
                .flops = call.cost.flops,
                .bytes = call.cost.bytes,
                .kernels = backward ? 3 : 1,
                .seconds = Max(call.cost.flops / flops, call.cost.bytes / copy)}};
  const auto add = [&](const char* name, const Forecast& bytes) {
    if (bytes == Forecast()) return;
    rows.push_back({.name = name, .bytes = bytes.expected, .seconds = bytes / copy});
  };
  if (!backward) return rows;
  if (remedies.atomic_attention) {
    add("attention, backward: dQ in f32", attention.AtomicBytes());
  } else {
    add("attention, backward: dS", attention.ScoreBytes());
  }
  add("attention, backward: groups of heads", attention.GroupBytes());
  return rows;
}

// --- Everything else ---

// Written and read.
double PartialSumBytes(const OpCall& call) {
  const OpOperand& dy = *call.Find("dy");
  const int64_t rows = dy.shape[0], columns = dy.shape[1];
  const bool is_norm = call.Has("dweight");
  const int64_t partials =
      is_norm ? cuda::NumRowBlockPartials(rows, columns, static_cast<int64_t>(DTypeSize(dy.dtype)))
              : cuda::NumPartials(rows, columns);
  const int gradients = is_norm && call.Has("dbias") ? 2 : 1;
  return 2.0 * sizeof(float) * gradients * partials * columns;
}

absl::StatusOr<Rows> CopyRows(const OpCall& call, const GpuRates& rates) {
  const auto op = std::find_if(std::begin(kOps), std::end(kOps),
                               [&](const OpClass& each) { return Is(call, each.op); });
  if (op == std::end(kOps)) return NoRate(call, "add the op to kOps of train/plan/call_times.cc");
  const bool backward = IsBackward(call);
  const CopyClass& copies = backward ? op->backward : op->forward;
  Forecast seconds = call.cost.bytes / rates[GpuRate::kCopy];
  double bytes = call.cost.bytes;
  if (copies.sums_rows) {
    bytes += PartialSumBytes(call);
    seconds += PartialSumBytes(call) / rates[GpuRate::kPartialSums];
  }
  return Rows{{.name = copies.row, .bytes = bytes, .kernels = copies.kernels, .seconds = seconds}};
}

}  // namespace

const std::vector<StepRemedy>& AllStepRemedies() {
  static const auto* remedies = new std::vector<StepRemedy>{
      {"attention that is not deterministic", &StepRemedies::atomic_attention},
      {"tuned algorithms of products", &StepRemedies::tuned_products},
      {"AdamW in one launch", &StepRemedies::one_adamw_launch}};
  return *remedies;
}

absl::StatusOr<std::vector<CallTimeRow>> ForecastCall(const OpCall& call, const GpuRates& rates,
                                                      const StepRemedies& remedies) {
  if (Is(call, "matmul")) return Product(call, rates, remedies);
  if (Is(call, "causal_attention")) return AttentionRows(call, rates, remedies);
  return CopyRows(call, rates);
}

}  // namespace strake
