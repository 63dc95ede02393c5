#include "tools/checking/check_op_table.h"

#include "absl/strings/str_split.h"
#include "glog/logging.h"

namespace strake {
namespace {

// What tells apart two calls of an op, but for who makes them.
std::string KeyOf(const OpCheck& check, const std::string& variant) {
  std::string key = absl::StrCat(check.op, " ", PassName(check.pass), " ", variant);
  for (const OpTensor& tensor : check.tensors) {
    absl::StrAppend(&key, " ", tensor.name, static_cast<int>(tensor.role),
                    ShapeString(tensor.shape));
  }
  return key;
}

}  // namespace

OpTable::OpTable(const EngineOptions& options, int tp, const Tensor& tokens, const Tensor& targets)
    : c_(options.model),
      gpt2_(c_.norm == NormKind::kLayerNorm),
      bf16_(options.dtype == DType::kBf16),
      tp_(tp),
      tokens_(tokens),
      targets_(targets),
      seq_len_(options.seq_len),
      n_(options.seq_len * options.micro_batch),
      local_n_(options.sequence_parallel ? n_ / tp : n_),
      layers_(c_.num_layers),
      loss_n_(options.logits_chunk.NumRows(n_, vocab_width(), options.dtype)),
      num_chunks_(options.logits_chunk.NumChunks(n_, vocab_width(), options.dtype)) {
  const auto heads = AttentionHeadShard(c_.num_heads, c_.num_kv_heads, tp, /*rank=*/0);
  CHECK(heads.ok()) << heads.status();
  heads_ = {options.micro_batch, seq_len_, heads->query.size(), heads->key_value.range.size(),
            c_.head_dim};
}

std::vector<OpCheck> OpTable::Build() {
  Forward();
  Backward();
  Optimizer();
  return std::move(checks_);
}

void OpTable::Add(OpCheck check, const std::string& variant) {
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

}  // namespace strake
