#include "train/engine/stage_runner.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The passes through a chunk for which a stage has memory: the most that are in flight. Where
// micro-batches are not whole rounds of the stages, stages with several chunks could wait for each
// other in a circle, each for the memory of a gradient that the other has not yet received; one
// more prevents that.
int NumFlights(const PipelineShape& shape, const std::vector<PipelineAction>& actions, int chunk) {
  int now = 0, peak = 0;
  for (const PipelineAction& action : actions) {
    if (action.chunk != chunk) continue;
    if (action.pass == PipelinePass::kForward) peak = std::max(peak, ++now);
    if (action.pass == PipelinePass::kWeightGradient) --now;
  }
  return peak + (shape.chunks > 1 && shape.micro_batches % shape.stages != 0 ? 1 : 0);
}

}  // namespace

StageRunner::StageRunner(const Options& options, const StageParts& parts, Communicator& pp,
                         StageLinks links)
    : options_(options),
      parts_(parts),
      actions_(PipelineActions(options.shape, pp.rank())),
      links_(std::move(links)),
      chunks_(*parts.models, &pp, &links_) {}

absl::StatusOr<std::unique_ptr<StageRunner>> StageRunner::Create(
    const Options& options, const StageParts& parts, Communicator& pp,
    absl::Span<const size_t> arena_bytes) {
  STRAKE_ASSIGN_OR_RETURN(StageLinks links, StageLinks::Create(pp, options.shape.chunks));
  std::unique_ptr<StageRunner> runner(new StageRunner(options, parts, pp, std::move(links)));
  STRAKE_RETURN_IF_ERROR(runner->Allocate(arena_bytes));
  return runner;
}

absl::Status StageRunner::Allocate(absl::Span<const size_t> arena_bytes) {
  const Device device = parts_.ctx->arena().device();
  auto next = arena_bytes.begin();
  const auto make = [&]() -> absl::StatusOr<ActivationArena> {
    if (arena_bytes.empty()) return ActivationArena::DryRun(device);
    CHECK(next != arena_bytes.end()) << "[stage_runner] " << arena_bytes.size() << " arenas";
    return ActivationArena::Create(*next++, device);
  };
  flights_.resize(options_.shape.chunks);
  for (int chunk = 0; chunk < options_.shape.chunks; ++chunk) {
    for (int i = NumFlights(options_.shape, actions_, chunk); i > 0; --i) {
      STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, make());
      STRAKE_ASSIGN_OR_RETURN(ActivationArena kept, make());
      arena.set_scratch(&parts_.ctx->arena());
      flights_[chunk].push_back({.arena = std::move(arena), .kept = std::move(kept)});
    }
  }
  return absl::OkStatus();
}

std::vector<size_t> StageRunner::arena_bytes() const {
  std::vector<size_t> bytes;
  for (const auto& of_chunk : flights_) {
    for (const Flight& flight : of_chunk) {
      for (const ActivationArena* arena : {&flight.arena, &flight.kept}) {
        bytes.push_back(arena->dry_run() ? arena->peak_bytes() : arena->num_bytes());
      }
    }
  }
  return bytes;
}

std::vector<absl::Span<char>> StageRunner::arenas() const {
  std::vector<absl::Span<char>> arenas;
  for (const auto& of_chunk : flights_) {
    for (const Flight& flight : of_chunk) {
      arenas.insert(arenas.end(), {flight.arena.bytes(), flight.kept.bytes()});
    }
  }
  return arenas;
}

bool StageRunner::PassesApart(int chunk) const {
  return options_.shape.kind == PipelineKind::kZeroBubble ||
         (options_.reduces_each && model(chunk).is_last());
}

// --- Passes in flight. ---

// Micro-batches take the flights of a chunk in turn: their passes begin and end in order.
StageRunner::Flight& StageRunner::FlightOf(int chunk, int micro_batch) {
  return flights_[chunk][micro_batch % flights_[chunk].size()];
}

absl::StatusOr<StageRunner::Flight*> StageRunner::StartFlight(int chunk, int micro_batch) {
  Flight& flight = FlightOf(chunk, micro_batch);
  CHECK_LT(flight.micro_batch, 0) << "[stage_runner] micro-batch " << micro_batch << " of chunk "
                                  << chunk << " starts before that one has ended";
  STRAKE_RETURN_IF_ERROR(FinishSends(flight));
  flight.arena.Clear();
  flight.kept.Clear();
  flight.saved = {};
  flight.micro_batch = micro_batch;
  return &flight;
}

StageRunner::Flight& StageRunner::FlightOf(const PipelineAction& action) {
  Flight& flight = FlightOf(action.chunk, action.micro_batch);
  CHECK_EQ(flight.micro_batch, action.micro_batch)
      << "[stage_runner] " << action.ToString() << " without its forward pass";
  return flight;
}

absl::Status StageRunner::FinishSends(Flight& flight) {
  for (auto* sent : {&flight.output, &flight.input_grad}) {
    if (sent->has_value()) STRAKE_RETURN_IF_ERROR((*sent)->Wait().status());
    sent->reset();
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> StageRunner::Received(Pending<Tensor> pending) const {
  const OpTimer timer(parts_.ctx->profile(), "receive", parts_.ctx->pass());
  return pending.Wait();
}

// Rows of activations of a micro-batch on this rank.
int64_t StageRunner::NumRows(const StageBatch& batch) const {
  return chunks_.front().tensor_parallel().NumLocalTokens(batch.tokens.dim(0));
}

// Lets the gradient of the pass's output arrive while the stage does something else.
void StageRunner::PostOutputGrad(const PipelineAction& action) {
  if (action.pass != PipelinePass::kInputGradient || model(action.chunk).is_last()) return;
  Flight& flight = FlightOf(action.chunk, action.micro_batch);
  if (flight.micro_batch != action.micro_batch || flight.output_grad.has_value()) return;
  flight.output_grad = links_.Receive(PipelinePass::kInputGradient,
                                      flight.arena.Allocate(flight.y.dtype(), flight.y.shape()));
}

// --- The passes. ---

absl::Status StageRunner::Train(absl::Span<const StageBatch> batches, OnLoss on_loss) {
  CHECK_EQ(batches.size(), options_.shape.micro_batches) << "[stage_runner] micro-batches";
  for (size_t i = 0; i < actions_.size(); ++i) {
    const PipelineAction& action = actions_[i];
    PostOutputGrad(action);
    if (i + 1 < actions_.size()) PostOutputGrad(actions_[i + 1]);
    switch (action.pass) {
      case PipelinePass::kForward:
        STRAKE_RETURN_IF_ERROR(Forward(action, batches[action.micro_batch], on_loss));
        break;
      case PipelinePass::kInputGradient:
        STRAKE_RETURN_IF_ERROR(InputGradient(action));
        break;
      case PipelinePass::kWeightGradient:
        STRAKE_RETURN_IF_ERROR(WeightGradient(action));
        break;
    }
  }
  for (auto& of_chunk : flights_) {
    for (Flight& flight : of_chunk) STRAKE_RETURN_IF_ERROR(FinishSends(flight));
  }
  return absl::OkStatus();
}

absl::Status StageRunner::Forward(const PipelineAction& action, const StageBatch& batch,
                                  OnLoss on_loss) {
  const ProfileSpan span(parts_.ctx->profile(), {.category = "pass", .name = "forward"});
  parts_.ctx->set_pass(Pass::kForward);
  const Transformer& part = model(action.chunk);
  STRAKE_ASSIGN_OR_RETURN(Flight* const flight, StartFlight(action.chunk, action.micro_batch));
  Context ctx = parts_.ctx->WithArena(&flight->arena);
  const Context kept = parts_.ctx->WithArena(&flight->kept);
  // The head's gradient is announced in the backward pass.
  ctx.set_on_grad_ready(nullptr);
  STRAKE_ASSIGN_OR_RETURN(flight->saved.input,
                          chunks_.ReceiveInput(ctx, action.chunk, NumRows(batch)));
  STRAKE_ASSIGN_OR_RETURN(
      flight->y, part.ForwardForTraining(ctx, batch.tokens, batch.targets, options_.seq_len,
                                         batch.scale, &flight->saved, batch.documents,
                                         options_.reduces_each ? &kept : nullptr));
  if (part.is_last()) return on_loss(part, flight->y, flight->saved);
  flight->output = links_.Send(PipelinePass::kForward, flight->y);
  return absl::OkStatus();
}

absl::Status StageRunner::InputGradient(const PipelineAction& action) {
  const ProfileSpan span(parts_.ctx->profile(), {.category = "pass", .name = "backward"});
  parts_.ctx->set_pass(Pass::kBackward);
  const Transformer& part = model(action.chunk);
  Flight& flight = FlightOf(action);
  if (!part.is_last()) {
    STRAKE_ASSIGN_OR_RETURN(flight.saved.output_grad, Received(*std::move(flight.output_grad)));
    flight.output_grad.reset();
  }
  const auto send = [&] {
    if (part.is_first()) return;
    flight.input_grad = links_.Send(PipelinePass::kInputGradient, flight.saved.dx);
  };
  if (PassesApart(action.chunk)) {
    STRAKE_RETURN_IF_ERROR(
        part.BackwardInput(*parts_.ctx, parts_.ctx->WithArena(&flight.kept), &flight.saved));
    send();
    return absl::OkStatus();
  }
  return Reduce(action, [&]() -> absl::Status {
    STRAKE_RETURN_IF_ERROR(part.Backward(*parts_.ctx, &flight.saved));
    send();
    return absl::OkStatus();
  });
}

absl::Status StageRunner::WeightGradient(const PipelineAction& action) {
  Flight& flight = FlightOf(action);
  flight.micro_batch = -1;
  if (!PassesApart(action.chunk)) return absl::OkStatus();
  const ProfileSpan span(parts_.ctx->profile(), {.category = "pass", .name = "weight gradients"});
  parts_.ctx->set_pass(Pass::kBackward);
  return Reduce(action,
                [&] { return model(action.chunk).BackwardWeight(*parts_.ctx, &flight.saved); });
}

absl::Status StageRunner::Reduce(const PipelineAction& action,
                                 absl::FunctionRef<absl::Status()> backward) {
  const bool last = action.micro_batch == options_.shape.micro_batches - 1;
  parts_.reducer->StartMicroBatch(*parts_.ctx, last, action.chunk);
  if (model(action.chunk).is_last() && !options_.reduces_each) {
    parts_.ctx->GradReady(model(action.chunk).head().weight());
  }
  STRAKE_RETURN_IF_ERROR(parts_.reducer->CauseOf(backward()));
  const OpTimer timer(parts_.ctx->profile(), "gradient_reduction", parts_.ctx->pass());
  return parts_.reducer->FinishMicroBatch(*parts_.ctx);
}

absl::Status StageRunner::Evaluate(const StageBatch& batch, OnLoss on_loss) {
  const ProfileSpan span(parts_.ctx->profile(), {.category = "pass", .name = "forward"});
  parts_.ctx->set_pass(Pass::kForward);
  const auto context_of = [&](int chunk) {
    // Training has finished its sends.
    ActivationArena& arena = flights_[chunk].front().arena;
    arena.Clear();
    return parts_.ctx->WithArena(&arena);
  };
  const auto run = [&](const Context& ctx, int chunk, const Tensor& x) -> absl::StatusOr<Tensor> {
    TransformerSaved saved;
    saved.input = x;
    STRAKE_ASSIGN_OR_RETURN(
        Tensor y, model(chunk).Forward(ctx, batch.tokens, batch.targets, options_.seq_len, &saved,
                                       batch.documents));
    if (model(chunk).is_last()) STRAKE_RETURN_IF_ERROR(on_loss(model(chunk), y, saved));
    return y;
  };
  return chunks_.Forward(NumRows(batch), context_of, run).status();
}

}  // namespace strake
