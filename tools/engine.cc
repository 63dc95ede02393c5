#include "tools/engine.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "models/non_finite.h"
#include "optim/grad_clip.h"
#include "parallel/data/gather_values.h"

namespace strake {
namespace {

template <typename Scalar>
double Sum(const Tensor& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) sum += x.data<Scalar>()[i];
  return sum;
}

// Held whole by every tensor-parallel rank.
bool IsReplicated(const Parameter& parameter, int num_ranks) {
  for (const ParameterSegment& segment : parameter.segments) {
    if (segment.slice.num_holders != num_ranks) return false;
  }
  return true;
}

}  // namespace

Engine::Engine(const EngineOptions& options, const Mesh& mesh)
    : options_(options),
      mesh_(&mesh),
      tp_(mesh.communicator(MeshAxis::kTp), options.sequence_parallel),
      plan_(PlanMemory(options, mesh.sizes(), mesh.rank())),
      team_(options.num_threads) {
  CHECK(mesh.sizes().pp == 1 && mesh.sizes().cp == 1)
      << "[engine] no pipeline or context parallelism: " << mesh.sizes().ToString();
  model_ = std::make_unique<Transformer>(options_.model, options_.seq_len, &parameters_, tp_);
}

absl::Status Engine::Allocate() {
  STRAKE_RETURN_IF_ERROR(
      parameters_.Allocate(options_.dtype, /*with_gradients=*/options_.gradients.zero < 2));
  STRAKE_RETURN_IF_ERROR(model_->PlaceTables());
  STRAKE_ASSIGN_OR_RETURN(reducer_,
                          GradientReducer::Create(&parameters_, mesh_->communicator(MeshAxis::kDp),
                                                  options_.gradients));
  STRAKE_ASSIGN_OR_RETURN(partial_gradients_, PartialGradients::Create(parameters_, tp_));
  STRAKE_ASSIGN_OR_RETURN(AdamW optimizer, AdamW::Create(parameters_, range(), grads()));
  optimizer_.emplace(std::move(optimizer));
  STRAKE_ASSIGN_OR_RETURN(ActivationArena activations,
                          ActivationArena::Create(plan_.activation_bytes));
  activations_.emplace(std::move(activations));
  context_.emplace(&team_, &*activations_, options_.op_set);
  context_->set_on_grad_ready(
      [this](const Parameter& parameter) { reducer_->OnGradReady(*context_, parameter); });
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       const Mesh& mesh) {
  std::unique_ptr<Engine> engine(new Engine(options, mesh));
  STRAKE_RETURN_IF_ERROR(engine->Allocate());
  return engine;
}

absl::StatusOr<double> Engine::AccumulateGradients(const Tensor& tokens, const Tensor& targets,
                                                   double scale, bool last) {
  const ActivationScope scope(*activations_);
  TransformerSaved saved;
  context_->set_pass(Pass::kForward);
  STRAKE_ASSIGN_OR_RETURN(const Tensor loss,
                          model_->Forward(*context_, tokens, targets, options_.seq_len, &saved));
  STRAKE_ASSIGN_OR_RETURN(const double sum, FiniteSum(loss, saved));
  context_->set_pass(Pass::kBackward);
  reducer_->StartMicroBatch(*context_, last);
  STRAKE_RETURN_IF_ERROR(model_->Backward(*context_, scale, &saved));
  const OpTimer timer(context_->profile(), "gradient_reduction", context_->pass());
  STRAKE_RETURN_IF_ERROR(reducer_->FinishMicroBatch(*context_));
  return sum;
}

absl::StatusOr<double> Engine::EvaluateLoss(const Tensor& tokens, const Tensor& targets) {
  const ActivationScope scope(*activations_);
  TransformerSaved saved;
  context_->set_pass(Pass::kForward);
  STRAKE_ASSIGN_OR_RETURN(const Tensor loss,
                          model_->Forward(*context_, tokens, targets, options_.seq_len, &saved));
  return FiniteSum(loss, saved);
}

absl::StatusOr<double> Engine::FiniteSum(const Tensor& loss, const TransformerSaved& saved) const {
  const double sum = loss.dtype() == DType::kF64 ? Sum<double>(loss) : Sum<float>(loss);
  if (std::isfinite(sum)) return sum;
  return absl::InternalError(absl::StrCat("the loss is ", sum,
                                          "; the first tensor that is not finite is ",
                                          FirstNonFinite(parameters_, saved)));
}

absl::Status Engine::SumGradients() {
  context_->set_pass(Pass::kBackward);
  return partial_gradients_->Sum(*context_, range(), grads());
}

absl::StatusOr<double> Engine::Update(const AdamWStep& step, double clip_norm) {
  context_->set_pass(Pass::kOptimizer);
  Communicator& dp = mesh_->communicator(MeshAxis::kDp);
  std::vector<Communicator*> owners_of_gradients = {&mesh_->communicator(MeshAxis::kTp)};
  if (options_.gradients.zero > 0) owners_of_gradients.push_back(&dp);
  const ActivationScope scope(*activations_);
  const Tensor clip = activations_->Allocate(DType::kF64, {2});
  STRAKE_RETURN_IF_ERROR(
      ClipGradNorm(*context_, parameters_, range(), grads(), clip_norm, owners_of_gradients, clip));
  const double norm = clip.data<double>()[0];
  if (!std::isfinite(norm)) return GradientError(norm);
  optimizer_->SetStep(step);
  STRAKE_RETURN_IF_ERROR(optimizer_->Step(*context_, clip));
  if (options_.gradients.zero > 0) {
    const OpTimer timer(context_->profile(), "all_gather", context_->pass());
    STRAKE_RETURN_IF_ERROR(GatherValues(parameters_.values(), dp));
  }
  STRAKE_RETURN_IF_ERROR(reducer_->ZeroGrads(*context_));
  if (dp.options().check) STRAKE_RETURN_IF_ERROR(CompareReplicas());
  return norm;
}

absl::Status Engine::GradientError(double norm) const {
  const std::string found = FirstNonFiniteGradient(parameters_, range().begin, grads());
  // Where this rank's are finite another rank's are not: its error, which names the tensor, ends
  // the barrier.
  for (const MeshAxis axis : {MeshAxis::kDp, MeshAxis::kTp}) {
    if (found == "none") STRAKE_RETURN_IF_ERROR(mesh_->communicator(axis).Barrier());
  }
  return absl::InternalError(absl::StrCat("the gradient norm is ", norm,
                                          "; the first tensor that is not finite is ", found));
}

absl::StatusOr<Engine::Agreement> Engine::Agree(double loss_sum, bool stop) {
  Communicator& dp = mesh_->communicator(MeshAxis::kDp);
  // Tensor-parallel ranks have one loss already.
  double values[] = {stop ? 1.0 : 0.0, loss_sum};
  const Tensor stops(values, DType::kF64, {1}), both(values, DType::kF64, {2});
  STRAKE_RETURN_IF_ERROR(tp_.AllReduceSum(*context_, stops));
  if (dp.size() > 1) STRAKE_RETURN_IF_ERROR(dp.AllReduceSum(both).Wait().status());
  return Agreement{.loss_sum = values[1], .stop = values[0] > 0};
}

absl::Status Engine::CompareReplicas() const {
  Communicator& dp = mesh_->communicator(MeshAxis::kDp);
  if (dp.size() > 1) {
    STRAKE_RETURN_IF_ERROR(dp.CompareReplicated(parameters_.values(), "the weights"));
  }
  if (tp_.size() == 1) return absl::OkStatus();
  for (const Parameter& parameter : parameters_.parameters()) {
    if (!IsReplicated(parameter, tp_.size())) continue;
    STRAKE_RETURN_IF_ERROR(tp_.communicator().CompareReplicated(parameter.value, parameter.name()));
  }
  return absl::OkStatus();
}

std::vector<const Communicator*> Engine::communicators() const {
  std::vector<const Communicator*> groups;
  for (const MeshAxis axis : {MeshAxis::kDp, MeshAxis::kTp}) {
    const Communicator& group = mesh_->communicator(axis);
    if (group.size() > 1) groups.push_back(&group);
  }
  if (const Communicator* kv = partial_gradients_->kv_communicator()) groups.push_back(kv);
  return groups;
}

}  // namespace strake
