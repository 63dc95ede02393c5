// ModelParts: the parts of a model that a rank has, in the model's order, and how a forward pass
// goes through them and those of other ranks: the whole model, or a stage's chunks
// (parallel/pipeline/schedule.h).
//
//   R rows of tokens on this rank, C hidden size
//
//   part 0 -> x [R, C] -> part 1 -> x [R, C] -> ... -> the last part's result
//
// What is between two parts goes from a stage to the next. A stage waits until its x has arrived
// there, and then goes on: stages work on different passes at a time.
#ifndef STRAKE_MODELS_MODEL_PARTS_H_
#define STRAKE_MODELS_MODEL_PARTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "models/transformer.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/stage_links.h"

namespace strake {

// A value that refers to models and groups, which must outlive it.
class ModelParts {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): a whole model is its only part.
  ModelParts(const Transformer& model) : parts_{&model} {}
  // The chunks of rank r of `pp`, which is stage r. Both are null for dry runs alone.
  ModelParts(absl::Span<const std::unique_ptr<Transformer>> chunks, Communicator* pp,
             StageLinks* links);

  int size() const { return static_cast<int>(parts_.size()); }
  const Transformer& part(int i) const { return *parts_[i]; }
  // Any part, for what is the same in all: configuration, dtype, device and tensor-parallel ranks.
  const Transformer& front() const { return *parts_.front(); }
  bool is_whole() const { return front().is_first() && front().is_last(); }

  // A group of more than one rank that shares the model, to wait for a GPU in; null where this rank
  // has it alone. Groups fail together.
  Communicator* AnyGroup() const;

  // The context of part i, in whose arena it has its input and what it makes.
  using ContextOf = absl::FunctionRef<Context(int i)>;
  // Runs part i, and returns what it makes; x is undefined for the first part of the model.
  using RunPart =
      absl::FunctionRef<absl::StatusOr<Tensor>(const Context& ctx, int i, const Tensor& x)>;

  // Runs a forward pass. Every rank of the model calls it. Returns what the model's last part made,
  // where it is, and else an undefined tensor. An error of any stage ends all.
  absl::StatusOr<Tensor> Forward(int64_t num_rows, ContextOf context_of, RunPart run) const;
  // The same, with one context for all parts.
  absl::StatusOr<Tensor> Forward(const Context& ctx, int64_t num_rows, RunPart run) const {
    return Forward(
        num_rows, [&ctx](int /*i*/) { return ctx; }, run);
  }

  // Receives what part i begins with, x [R, C] in ctx's arena; undefined for the first part.
  absl::StatusOr<Tensor> ReceiveInput(const Context& ctx, int i, int64_t num_rows) const;

  // Returns on every rank `result`, of this shape and the model's dtype, that the last part made.
  absl::StatusOr<Tensor> Share(const Context& ctx, const Tensor& result, const Shape& shape) const;

 private:
  // Dry runs communicate only in groups of dry runs.
  bool Communicates(const Context& ctx) const {
    return pp_ != nullptr && (!ctx.dry_run() || pp_->dry_run());
  }

  std::vector<const Transformer*> parts_;
  Communicator* pp_ = nullptr;
  StageLinks* links_ = nullptr;
};

}  // namespace strake

#endif  // STRAKE_MODELS_MODEL_PARTS_H_
