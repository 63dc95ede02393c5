#include "train/evaluation/sequence_scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/ops/embedding/embedding.h"
#include "glog/logging.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {
namespace {

Context WithArena(const Context& base, ActivationArena* arena) {
  Context ctx(&base.team(), arena, base.op_set());
  ctx.set_deterministic(base.deterministic());
  if (!arena->dry_run() && arena->device() == Device::kCuda) ctx.set_cuda(&base.cuda());
  return ctx;
}

size_t FreeBytes(const ActivationArena& arena) {
  return arena.dry_run() ? 0 : arena.num_bytes() - arena.used_bytes();
}

// Runs a forward pass of tokens and targets. Returns their losses, undefined where the model's last
// part is elsewhere.
absl::StatusOr<Tensor> Losses(const Context& ctx, const ModelParts& model, const Tensor& tokens,
                              const Tensor& targets, int64_t seq_len) {
  const int64_t num_rows = model.front().tensor_parallel().NumLocalTokens(tokens.dim(0));
  return model.Forward(ctx, num_rows, [&](const Context& /*ctx*/, int i, const Tensor& x) {
    TransformerSaved saved;
    saved.input = x;
    return model.part(i).Forward(ctx, tokens, targets, seq_len, &saved);
  });
}

std::vector<double> ToDoubles(const void* values, DType dtype, int64_t count) {
  std::vector<double> to(count);
  if (dtype == DType::kF64) {
    std::copy_n(static_cast<const double*>(values), count, to.begin());
  } else {
    CHECK(dtype == DType::kF32) << "[sequence_scorer] losses in " << DTypeName(dtype);
    std::copy_n(static_cast<const float*>(values), count, to.begin());
  }
  return to;
}

}  // namespace

SequenceScorer::SequenceScorer(const Context& ctx, const ModelParts& model, const Mesh& mesh,
                               SequenceScorerOptions options)
    : base_(&ctx), model_(model), mesh_(&mesh), options_(std::move(options)) {
  CHECK_GE(options_.pass_tokens, 1);
}

int64_t SequenceScorer::PaddedLength(int64_t num_inputs) const {
  const TensorParallel& tp = model_.front().tensor_parallel();
  const int64_t multiple = tp.sequence_parallel() ? tp.size() : 1;
  return (num_inputs + multiple - 1) / multiple * multiple;
}

std::vector<SequenceScorer::Pass> SequenceScorer::MakePasses(
    absl::Span<const ScoredSequence> sequences) const {
  std::vector<int64_t> order(sequences.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return sequences[a].num_ids > sequences[b].num_ids;
  });
  std::vector<Pass> passes;
  for (size_t begin = 0; begin < order.size();) {
    const int64_t seq_len = PaddedLength(sequences[order[begin]].num_inputs());
    const size_t count = std::max<int64_t>(1, options_.pass_tokens / seq_len);
    const size_t end = std::min(order.size(), begin + count);
    passes.push_back({.shape = {static_cast<int64_t>(end - begin), seq_len},
                      .sequences = {order.begin() + begin, order.begin() + end}});
    begin = end;
  }
  return passes;
}

size_t SequenceScorer::ActivationBytes(const Context& ctx, const ModelParts& model,
                                       const PassShape& shape) {
  const Device device = model.front().device();
  ActivationArena plan = ActivationArena::DryRun(device);
  const Context dry = WithArena(ctx, &plan);
  const int64_t num_tokens = shape.batch * shape.seq_len;
  Tensor input(nullptr, DType::kI32, {num_tokens}, device);
  if (device == Device::kCuda) {
    for (int i = 0; i < 2; ++i) input = plan.Allocate(DType::kI32, {num_tokens});
  }
  CHECK(Losses(dry, model, input, input, shape.seq_len).ok());
  return plan.peak_bytes();
}

absl::Status SequenceScorer::Reserve(const std::vector<Pass>& passes) {
  size_t bytes = 0;
  int64_t num_tokens = 0;
  PassShape last;  // passes of one shape are neighbours
  for (const Pass& pass : passes) {
    num_tokens = std::max(num_tokens, pass.shape.batch * pass.shape.seq_len);
    if (std::exchange(last, pass.shape) == pass.shape) continue;
    bytes = std::max(bytes, ActivationBytes(*base_, model_, pass.shape));
  }
  const Device device = model_.front().device();
  if (device == Device::kCuda && host_losses_.num_bytes() < num_tokens * sizeof(float)) {
    STRAKE_ASSIGN_OR_RETURN(host_losses_, PinnedMemory::Allocate(num_tokens * sizeof(float)));
  }
  if (bytes <= FreeBytes(base_->arena())) {
    own_arena_.reset();
    return absl::OkStatus();
  }
  if (own_arena_.has_value() && bytes <= own_arena_->num_bytes()) return absl::OkStatus();
  own_arena_.reset();
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(bytes, device));
  own_arena_.emplace(std::move(arena));
  return absl::OkStatus();
}

absl::StatusOr<Tensor> SequenceScorer::Upload(const Context& ctx, std::vector<int32_t>& ids) const {
  const Tensor host(ids.data(), DType::kI32, {static_cast<int64_t>(ids.size())});
  if (model_.front().device() == Device::kCpu) return host;
  STRAKE_RETURN_IF_ERROR(CheckTokens(host, model_.front().config().vocab_size));
  const Tensor copy = ctx.arena().Allocate(DType::kI32, host.shape());
  STRAKE_RETURN_IF_ERROR(CopyToDevice(copy.raw(), host.raw(), host.num_bytes(), ctx.cuda_stream()));
  return copy;
}

absl::StatusOr<std::vector<double>> SequenceScorer::TokenLosses(const PassShape& shape) {
  const Context ctx = WithArena(*base_, own_arena_.has_value() ? &*own_arena_ : &base_->arena());
  const ActivationScope scope(ctx.arena());
  STRAKE_ASSIGN_OR_RETURN(const Tensor tokens, Upload(ctx, tokens_));
  STRAKE_ASSIGN_OR_RETURN(const Tensor targets, Upload(ctx, targets_));
  STRAKE_ASSIGN_OR_RETURN(const Tensor loss, Losses(ctx, model_, tokens, targets, shape.seq_len));
  if (!loss.defined()) return std::vector<double>();
  if (model_.front().device() == Device::kCpu) {
    return ToDoubles(loss.raw(), loss.dtype(), loss.num_elements());
  }
  STRAKE_RETURN_IF_ERROR(
      CopyToHost(host_losses_.data(), loss.raw(), loss.num_bytes(), ctx.cuda_stream()));
  Communicator* const group = model_.AnyGroup();
  STRAKE_RETURN_IF_ERROR(
      (group != nullptr ? *group : mesh_->gradient_group()).WaitForStream(ctx.cuda_stream()));
  return ToDoubles(host_losses_.data(), loss.dtype(), loss.num_elements());
}

absl::Status SequenceScorer::Run(const Pass& pass, absl::Span<const ScoredSequence> sequences,
                                 absl::FunctionRef<absl::Status(int64_t i, int32_t* ids)> load,
                                 absl::Span<double> losses) {
  const int64_t seq_len = pass.shape.seq_len;
  tokens_.assign(pass.shape.batch * seq_len, 0);
  targets_.assign(pass.shape.batch * seq_len, 0);
  std::vector<int32_t> ids;
  for (size_t row = 0; row < pass.sequences.size(); ++row) {
    ids.resize(sequences[pass.sequences[row]].num_ids);
    STRAKE_RETURN_IF_ERROR(load(pass.sequences[row], ids.data()));
    std::copy(ids.begin(), ids.end() - 1, tokens_.begin() + row * seq_len);
    std::copy(ids.begin() + 1, ids.end(), targets_.begin() + row * seq_len);
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<double> token_losses, TokenLosses(pass.shape));
  if (token_losses.empty()) return absl::OkStatus();
  for (size_t row = 0; row < pass.sequences.size(); ++row) {
    const ScoredSequence& sequence = sequences[pass.sequences[row]];
    const auto begin = token_losses.begin() + row * seq_len;
    losses[pass.sequences[row]] =
        std::accumulate(begin + sequence.first - 1, begin + sequence.num_inputs(), 0.0);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> SequenceScorer::SumLosses(
    absl::Span<const ScoredSequence> sequences,
    absl::FunctionRef<absl::Status(int64_t i, int32_t* ids)> load) {
  int64_t all = 0, done = 0;
  for (const ScoredSequence& s : sequences) {
    CHECK(1 <= s.first && s.first < s.num_ids)
        << "[sequence_scorer] " << s.num_ids << " ids, predicted from " << s.first;
    all += s.num_inputs();
  }
  const std::vector<Pass> passes = MakePasses(sequences);
  STRAKE_RETURN_IF_ERROR(Reserve(passes));
  // Each loss is one rank's, and zero on the others.
  std::vector<double> losses(sequences.size());
  const size_t num_ranks = mesh_->gradient_group().size(), rank = mesh_->gradient_group().rank();
  for (size_t begin = 0; begin < passes.size(); begin += num_ranks) {
    if (options_.stop != nullptr) {
      STRAKE_ASSIGN_OR_RETURN(const bool stop, options_.stop());
      if (stop) return absl::CancelledError("asked to stop");
    }
    if (begin + rank < passes.size()) {
      STRAKE_RETURN_IF_ERROR(Run(passes[begin + rank], sequences, load, absl::MakeSpan(losses)));
    }
    for (size_t i = begin; i < std::min(begin + num_ranks, passes.size()); ++i) {
      for (const int64_t s : passes[i].sequences) done += sequences[s].num_inputs();
    }
    if (options_.on_progress != nullptr) options_.on_progress(done, all);
  }
  if (losses.empty()) return losses;
  const Tensor sums(losses.data(), DType::kF64, {static_cast<int64_t>(losses.size())});
  for (Communicator* group : {&mesh_->gradient_group(), &mesh_->communicator(MeshAxis::kPp)}) {
    STRAKE_RETURN_IF_ERROR(group->AllReduceSum(sums).Wait().status());
  }
  for (size_t i = 0; i < losses.size(); ++i) {
    if (std::isfinite(losses[i])) continue;
    return absl::InternalError(absl::StrCat("the loss of sequence ", i, " is ", losses[i],
                                            "; the model's weights are broken, or too large for ",
                                            DTypeName(model_.front().dtype())));
  }
  return losses;
}

}  // namespace strake
