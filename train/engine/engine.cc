#include "train/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/cuda/cublaslt.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/copy/copy.h"
#include "core/ops/embedding/embedding.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/ops/sum/sum.h"
#include "glog/logging.h"
#include "models/non_finite.h"
#include "optim/grad_clip.h"
#include "train/engine/stage_models.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

bool CanBeCaptured(const Mesh& mesh) {
  const std::vector<Communicator*> groups = mesh.communicators();
  return std::all_of(groups.begin(), groups.end(),
                     [](const Communicator* group) { return group->CanBeCaptured(); });
}

ContextParallel ContextParallelOf(const Mesh& mesh, ContextComm comm) {
  return mesh.sizes().cp == 1 ? ContextParallel()
                              : ContextParallel(mesh.communicator(MeshAxis::kCp), comm);
}

}  // namespace

Engine::Engine(const EngineOptions& options, const Mesh& mesh)
    : options_(WithLayersOfParts(options, mesh.sizes().pp)),
      mesh_(&mesh),
      tp_(mesh.communicator(MeshAxis::kTp), options.sequence_parallel),
      cp_(ContextParallelOf(mesh, options.context_comm)),
      team_(options.num_threads) {
  const absl::Status divided = CheckSequence(options_.seq_len, cp_.size());
  CHECK(divided.ok()) << "[engine] " << divided;
  const bool lora = options_.model.lora.enabled();
  models_ = MakeStageModels(options_, mesh.sizes().pp, mesh.coordinates().pp, tp_,
                            lora ? &base_ : &parameters_, &parameters_, cp_);
  PadBuckets(&parameters_, options_.dtype, GradientGroupSize(mesh.sizes()), options_.gradients);
  MakeWholeSequences();
}

absl::Status Engine::UseCuda() {
  STRAKE_ASSIGN_OR_RETURN(cuda_,
                          CudaContext::Create(options_.cuda_device, options_.product_tunings));
  mesh_->BindCudaStream(cuda_->stream());
  for (int64_t i = has_stages() ? options_.pipeline.micro_batches : 1; i > 0; --i) {
    STRAKE_ASSIGN_OR_RETURN(
        BatchUpload upload,
        BatchUpload::Create(options_.micro_batch * local_seq_len(), has_positions()));
    uploads_.push_back(std::move(upload));
  }
  STRAKE_ASSIGN_OR_RETURN(host_values_, PinnedMemory::Allocate(3 * sizeof(double)));
  STRAKE_ASSIGN_OR_RETURN(host_scale_, PinnedMemory::Allocate(sizeof(double)));
  return absl::OkStatus();
}

absl::Status Engine::Allocate(const MemoryPlan& plan) {
  if (options_.device == Device::kCuda) STRAKE_RETURN_IF_ERROR(UseCuda());
  if (base() != nullptr) {
    STRAKE_RETURN_IF_ERROR(
        base_.Allocate(options_.dtype, /*with_gradients=*/false, options_.device));
  }
  STRAKE_RETURN_IF_ERROR(parameters_.Allocate(
      options_.dtype, /*with_gradients=*/options_.gradients.zero < 2, options_.device));
  for (const auto& model : models_) STRAKE_RETURN_IF_ERROR(model->PlaceTables());
  STRAKE_ASSIGN_OR_RETURN(
      reducer_, GradientReducer::Create(&parameters_, mesh_->gradient_group(), options_.gradients));
  STRAKE_ASSIGN_OR_RETURN(partial_gradients_, PartialGradients::Create(parameters_, tp_));
  STRAKE_ASSIGN_OR_RETURN(AdamW optimizer, AdamW::Create(parameters_, grads()));
  optimizer_.emplace(std::move(optimizer));
  STRAKE_ASSIGN_OR_RETURN(ActivationArena activations,
                          ActivationArena::Create(plan.arena_bytes[0], options_.device));
  activations_.emplace(std::move(activations));
  STRAKE_ASSIGN_OR_RETURN(step_memory_, DeviceBuffer::Create(options_.device, DType::kF64, {4}));
  step_values_ = step_memory_.tensor().Rows(0, 3);
  grad_scale_ = step_memory_.tensor().Rows(3, 4);
  STRAKE_RETURN_IF_ERROR(AllocateSequenceLosses());
  MakeContext();
  context_->set_cuda(cuda_.get());
  if (has_stages()) {
    STRAKE_ASSIGN_OR_RETURN(stage_, CreateStage(absl::MakeConstSpan(plan.arena_bytes).subspan(1)));
  }
  if (cuda_ != nullptr && options_.dtype == DType::kBf16) PlanAttention();
  return absl::OkStatus();
}

// Plans every layer's attention now rather than in the first step.
void Engine::PlanAttention() {
  if (cp_.size() > 1) {
    attention_note_ = "cuDNN attends to no part of the keys, as context-parallel ranks do";
    return;
  }
  int64_t num_refused = 0, num_layers = 0;
  for (const auto& model : models_) {
    for (int64_t i = model->layers().begin; i < model->layers().end; ++i, ++num_layers) {
      const AttentionShape shape =
          model->AttentionShapeFor(i, options_.micro_batch * local_seq_len(), local_seq_len());
      const absl::Status fast = CausalAttentionHasCudnn(*context_, shape, has_positions());
      if (!fast.ok() && num_refused++ == 0) attention_note_ = std::string(fast.message());
    }
  }
  if (num_refused > 0 && num_refused < num_layers) {
    absl::StrAppend(&attention_note_, " (in ", num_refused, " of ", num_layers, " layers)");
  }
}

absl::Status Engine::AllocateSequenceLosses() {
  if (options_.step_sequences == 0) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(pass_losses_memory_, DeviceBuffer::Create(options_.device, DType::kF64,
                                                                    {options_.micro_batch}));
  pass_losses_ = pass_losses_memory_.tensor();
  if (cuda_ == nullptr) {
    host_losses_.resize(options_.step_sequences);
    return absl::OkStatus();
  }
  STRAKE_ASSIGN_OR_RETURN(pinned_losses_,
                          PinnedMemory::Allocate(options_.step_sequences * sizeof(double)));
  return absl::OkStatus();
}

void Engine::AllocateDryRun(OpRecorder* recorder) {
  base_.AllocateDryRun(options_.dtype, options_.device, /*with_gradients=*/false);
  parameters_.AllocateDryRun(options_.dtype, options_.device,
                             /*with_gradients=*/options_.gradients.zero < 2);
  auto reducer = GradientReducer::Create(&parameters_, mesh_->gradient_group(), options_.gradients);
  CHECK(reducer.ok()) << reducer.status();
  reducer_ = std::move(*reducer);
  auto partial_gradients = PartialGradients::Create(parameters_, tp_);
  CHECK(partial_gradients.ok()) << partial_gradients.status();
  partial_gradients_.emplace(std::move(*partial_gradients));
  optimizer_.emplace(AdamW::DryRun(parameters_, grads()));
  activations_.emplace(ActivationArena::DryRun(options_.device));
  step_values_ = Tensor(nullptr, DType::kF64, {3}, options_.device);
  grad_scale_ = Tensor(nullptr, DType::kF64, {1}, options_.device);
  pass_losses_ = Tensor(nullptr, DType::kF64, {options_.micro_batch}, options_.device);
  MakeContext();
  weights_wait_ = weight_gather_.has_value();  // as in a step that follows another
  context_->set_recorder(recorder);
  if (!has_stages()) return;
  auto stage = CreateStage(/*arena_bytes=*/{});
  CHECK(stage.ok()) << stage.status();
  stage_ = std::move(*stage);
}

void Engine::MakeContext() {
  context_.emplace(&team_, &*activations_, options_.op_set);
  context_->set_deterministic(options_.deterministic);
  context_->set_on_grad_ready(
      [this](const Parameter& parameter) { reducer_->OnGradReady(*context_, parameter); });
  Communicator& group = mesh_->gradient_group();
  if (options_.gradients.zero == 0 || group.size() == 1) return;
  weight_gather_.emplace(parameters_, group, options_.gradients);
  context_->set_on_will_read([this](const Parameter& parameter) {
    if (!weight_gather_->in_flight()) return;
    const OpTimer timer(context_->profile(), "all_gather", context_->pass());
    weight_gather_->WaitFor(parameter);
  });
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       const Mesh& mesh) {
  CHECK(!mesh.communicator(MeshAxis::kDp).dry_run()) << "[engine] Create() on a dry run's mesh";
  std::unique_ptr<Engine> engine(new Engine(options, mesh));
  const MemoryPlan plan = PlanMemory(engine->options_, mesh.sizes(), mesh.rank());
  STRAKE_RETURN_IF_ERROR(engine->Allocate(plan));
  return engine;
}

std::unique_ptr<Engine> Engine::DryRun(const EngineOptions& options, const Mesh& mesh,
                                       OpRecorder* recorder) {
  CHECK(mesh.communicator(MeshAxis::kDp).dry_run()) << "[engine] DryRun() on ranks' mesh";
  std::unique_ptr<Engine> engine(new Engine(options, mesh));
  engine->AllocateDryRun(recorder);
  return engine;
}

MemoryPlan Engine::memory_plan() const {
  std::vector<size_t> arenas = {dry_run() ? activations_->peak_bytes() : activations_->num_bytes()};
  if (stage_ != nullptr) {
    const std::vector<size_t> of_passes = stage_->arena_bytes();
    arenas.insert(arenas.end(), of_passes.begin(), of_passes.end());
  }
  return {.parameter_bytes =
              (base_.num_elements() + parameters_.num_elements()) * DTypeSize(options_.dtype),
          .gradient_bytes = GradientReducer::GradientBytes(
              parameters_, GradientGroupSize(mesh_->sizes()), options_.gradients),
          .optimizer_bytes = AdamW::StateBytes(parameters_, optimizer_->size()),
          .activation_bytes = std::accumulate(arenas.begin(), arenas.end(), size_t{0}),
          .library_bytes = options_.device == Device::kCuda ? CublasLt::kWorkspaceBytes : 0,
          .arena_bytes = arenas};
}

const Transformer& Engine::model() const {
  CHECK(!has_stages()) << "[engine] model() of a pipeline's stage";
  return *models_[0];
}

ModelParts Engine::model_parts() const {
  return has_stages() ? stage_->parts() : ModelParts(model());
}

std::vector<absl::Span<char>> Engine::HostArrays() const {
  if (options_.device != Device::kCpu || dry_run()) return {};
  std::vector<absl::Span<char>> memory = {activations_->bytes()};
  if (stage_ != nullptr) {
    for (const absl::Span<char> arena : stage_->arenas()) memory.push_back(arena);
  }
  const auto add = [&](const Tensor& array) {
    if (array.defined()) memory.emplace_back(static_cast<char*>(array.raw()), array.num_bytes());
  };
  add(parameters_.grads());
  if (!parameters_.grads().defined()) {
    for (const ArenaPart& part : grads()) add(part.values);
  }
  for (const Tensor& array :
       {optimizer_->exp_avg(), optimizer_->exp_avg_sq(), optimizer_->masters()}) {
    add(array);
  }
  for (const ParameterArena* arena : {&base_, &parameters_}) {
    if (arena->num_elements() > 0) add(arena->values());
  }
  return memory;
}

// --- A step. ---

absl::Status Engine::RunPass(const EnginePass& pass) {
  values_fetched_ = false;
  const auto enqueue = [&] {
    return std::visit([this](const auto& each) { return Enqueue(each); }, pass);
  };
  // A profile has to see each op.
  const bool recorded = cuda_ != nullptr && options_.cuda_graph && context_->profile() == nullptr &&
                        CanBeCaptured(*mesh_);
  return recorded ? graphs_.Run(cuda_->stream(), pass, enqueue) : enqueue();
}

// Those of a dry run have no memory.
void Engine::MakeWholeSequences() {
  if (options_.documents || cp_.size() == 1) return;
  whole_lengths_.assign(options_.micro_batch, options_.seq_len);
  const Shape shape = {options_.micro_batch * local_seq_len()};
  if (dry_run()) {
    whole_positions_ = Tensor(nullptr, DType::kI32, shape, options_.device);
    return;
  }
  whole_memory_ = TensorBuffer(DType::kI32, shape);
  whole_positions_ = whole_memory_.tensor();
  const absl::Status set =
      SetDocumentPositions(whole_lengths_, options_.seq_len, whole_positions_, cp_.chunks());
  CHECK(set.ok()) << "[engine] " << set;
}

Documents Engine::WholeSequences(int64_t num_tokens) const {
  return {whole_positions_.Rows(0, num_tokens),
          absl::MakeConstSpan(whole_lengths_).first(num_tokens / local_seq_len())};
}

absl::StatusOr<TokenPlace> Engine::Upload(const Tensor& tokens, const Tensor& targets,
                                          const Documents& given) {
  const ProfileSpan span(context_->profile(), {.category = "io", .name = "upload"});
  CHECK(given.defined() == options_.documents)
      << "[engine] documents " << (options_.documents ? "are missing" : "without the option");
  const Documents documents = whole_positions_.defined() ? WholeSequences(tokens.dim(0)) : given;
  STRAKE_RETURN_IF_ERROR(
      CheckDocuments("engine", documents, tokens.dim(0), options_.seq_len, cp_.chunks()));
  document_lengths_ = documents.lengths;
  if (cuda_ == nullptr) {
    return TokenPlace{.tokens = tokens.raw(),
                      .targets = targets.raw(),
                      .num_tokens = tokens.dim(0),
                      .positions = documents.positions.raw(),
                      .has_documents = documents.defined()};
  }
  STRAKE_RETURN_IF_ERROR(CheckTokens(tokens, options_.model.vocab_size));
  STRAKE_RETURN_IF_ERROR(CheckTargets(targets, options_.model.vocab_size));
  BatchUpload& upload = uploads_[has_stages() ? queue_.size() : 0];
  return upload.Upload(AnyGroup(), cuda_->stream(), tokens, targets, documents.positions);
}

Tensor Engine::TensorAt(void* place, int64_t num_tokens) const {
  return Tensor(place, DType::kI32, {num_tokens}, options_.device);
}

// The lengths are those of the pass that runs. A graph reads positions alone, so that other
// documents may follow.
Documents Engine::DocumentsAt(const TokenPlace& place) const {
  if (!place.has_documents) return {};
  return {TensorAt(place.positions, place.num_tokens), document_lengths_};
}

absl::Status Engine::AccumulateGradients(const Tensor& tokens, const Tensor& targets, double scale,
                                         bool last, const Documents& documents) {
  if (has_stages()) {
    STRAKE_RETURN_IF_ERROR(Queue(tokens, targets, scale, documents));
    return last ? RunStage() : absl::OkStatus();
  }
  STRAKE_ASSIGN_OR_RETURN(const TokenPlace batch, Upload(tokens, targets, documents));
  STRAKE_RETURN_IF_ERROR(RunPass(TrainPass{.batch = batch,
                                           .scale = scale,
                                           .first = !in_step_,
                                           .last = last,
                                           .gather = std::exchange(weights_wait_, false)}));
  if (!std::exchange(in_step_, true)) num_sequences_ = 0;
  return KeepSequenceLosses(batch.num_tokens / local_seq_len());
}

// Outside the pass: each time to another place.
absl::Status Engine::KeepSequenceLosses(int64_t num_sequences) {
  if (options_.step_sequences == 0 || dry_run()) return absl::OkStatus();
  const int64_t first = std::exchange(num_sequences_, num_sequences_ + num_sequences);
  CHECK(num_sequences_ <= options_.step_sequences)
      << "[engine] " << num_sequences_ << " sequences in a step of " << options_.step_sequences;
  const double* const losses = pass_losses_.data<double>();
  if (cuda_ != nullptr) {
    return CopyToHost(static_cast<double*>(pinned_losses_.data()) + first, losses,
                      num_sequences * sizeof(double), cuda_->stream());
  }
  std::copy_n(losses, num_sequences, host_losses_.begin() + first);
  return absl::OkStatus();
}

absl::Span<const double> Engine::SequenceLosses() const {
  const double* const losses =
      cuda_ != nullptr ? static_cast<const double*>(pinned_losses_.data()) : host_losses_.data();
  return {losses, static_cast<size_t>(num_sequences_)};
}

// The last stage has the losses, and context-parallel ranks each those of their tokens.
absl::Status Engine::ShareSequenceLosses() {
  if (options_.step_sequences == 0 || dry_run()) return absl::OkStatus();
  double* const values = const_cast<double*>(SequenceLosses().data());
  const Tensor losses(values, DType::kF64, {num_sequences_});
  Communicator& cp = mesh_->communicator(MeshAxis::kCp);
  Communicator& pp = mesh_->communicator(MeshAxis::kPp);
  const int last_stage = pp.size() - 1;
  if (cp.size() > 1 && pp.rank() == last_stage) {
    STRAKE_RETURN_IF_ERROR(cp.AllReduceSum(losses).Wait().status());
  }
  return pp.size() > 1 ? pp.Broadcast(losses, last_stage).Wait().status() : absl::OkStatus();
}

absl::Status Engine::EvaluateLoss(const Tensor& tokens, const Tensor& targets,
                                  const Documents& documents) {
  CHECK(!weights_wait_) << "[engine] EvaluateLoss() before GatherWeights()";
  STRAKE_ASSIGN_OR_RETURN(const TokenPlace batch, Upload(tokens, targets, documents));
  if (has_stages()) return EvaluateOnStage(batch);
  return RunPass(EvaluatePass{.batch = batch});
}

absl::Status Engine::SumGradients() { return RunPass(SumGradientsPass()); }

absl::Status Engine::AddLoss(const Transformer& model, const Tensor& loss,
                             const TransformerSaved& saved) {
  const LayerScope layer(*context_, "loss");
  STRAKE_RETURN_IF_ERROR(AddSum(*context_, loss, loss_sum()));
  if (cuda_ != nullptr || dry_run()) return absl::OkStatus();
  const double sum = *loss_sum().data<double>();
  if (std::isfinite(sum)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the loss is ", sum, "; the first tensor that is not finite is ",
                   FirstNonFinite(*context_, model, {&base_, &parameters_}, saved)));
}

absl::Status Engine::SumSequences(const Tensor& loss) {
  if (options_.step_sequences == 0) return absl::OkStatus();
  const LayerScope layer(*context_, "loss");
  const int64_t seq_len = local_seq_len();
  STRAKE_RETURN_IF_ERROR(SetZero(*context_, pass_losses_));
  for (int64_t i = 0; i < loss.dim(0) / seq_len; ++i) {
    STRAKE_RETURN_IF_ERROR(
        AddSum(*context_, loss.Rows(i * seq_len, (i + 1) * seq_len), pass_losses_.Rows(i, i + 1)));
  }
  return absl::OkStatus();
}

absl::Status Engine::Enqueue(const TrainPass& pass) {
  context_->set_pass(Pass::kForward);
  if (pass.first) STRAKE_RETURN_IF_ERROR(reducer_->ClearGrads(*context_));
  const Tensor tokens = TensorAt(pass.batch.tokens, pass.batch.num_tokens);
  const Tensor targets = TensorAt(pass.batch.targets, pass.batch.num_tokens);
  const ActivationScope scope(*activations_);
  TransformerSaved saved;
  std::optional<ProfileSpan> span;
  span.emplace(context_->profile(), SpanLabel{.category = "pass", .name = "forward"});
  reducer_->StartMicroBatch(*context_, pass.last);
  if (pass.gather) StartGather();
  const auto loss = model().ForwardForTraining(*context_, tokens, targets, local_seq_len(),
                                               pass.scale, &saved, DocumentsAt(pass.batch));
  if (!loss.ok()) {
    // The other ranks get this cause, and not that gathers were dropped.
    if (pass.gather) mesh_->gradient_group().Abort(loss.status());
    return loss.status();
  }
  if (pass.gather) STRAKE_RETURN_IF_ERROR(weight_gather_->WaitForAll());
  STRAKE_RETURN_IF_ERROR(AddLoss(model(), *loss, saved));
  STRAKE_RETURN_IF_ERROR(SumSequences(*loss));
  span.reset();
  span.emplace(context_->profile(), SpanLabel{.category = "pass", .name = "backward"});
  context_->set_pass(Pass::kBackward);
  STRAKE_RETURN_IF_ERROR(reducer_->CauseOf(model().Backward(*context_, &saved)));
  const OpTimer timer(context_->profile(), "gradient_reduction", context_->pass());
  return reducer_->FinishMicroBatch(*context_);
}

absl::Status Engine::Enqueue(const EvaluatePass& pass) {
  const ActivationScope scope(*activations_);
  TransformerSaved saved;
  const ProfileSpan span(context_->profile(), {.category = "pass", .name = "forward"});
  context_->set_pass(Pass::kForward);
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor loss,
      model().Forward(*context_, TensorAt(pass.batch.tokens, pass.batch.num_tokens),
                      TensorAt(pass.batch.targets, pass.batch.num_tokens), local_seq_len(), &saved,
                      DocumentsAt(pass.batch)));
  return AddLoss(model(), loss, saved);
}

absl::Status Engine::Enqueue(const SumGradientsPass& /*pass*/) {
  context_->set_pass(Pass::kBackward);
  if (has_stages()) STRAKE_RETURN_IF_ERROR(SumTiedTable());
  return partial_gradients_->Sum(*context_, grads());
}

absl::Status Engine::Enqueue(const UpdatePass& pass) {
  context_->set_pass(Pass::kOptimizer);
  std::vector<Communicator*> owners_of_gradients = {&mesh_->communicator(MeshAxis::kTp),
                                                    &mesh_->communicator(MeshAxis::kPp)};
  if (options_.gradients.zero > 0) owners_of_gradients.push_back(&mesh_->gradient_group());
  if (cuda_ != nullptr) {
    STRAKE_RETURN_IF_ERROR(CopyToDevice(grad_scale_.raw(), host_scale_.data(),
                                        grad_scale_.num_bytes(), cuda_->stream()));
  }
  STRAKE_RETURN_IF_ERROR(ClipGradNorm(*context_, parameters_, grads(), pass.clip_norm,
                                      owners_of_gradients, clip(), grad_scale_));
  return optimizer_->Step(*context_, clip());
}

// The last update, which read the same memory, has run.
void Engine::SetGradScale(double grad_scale) {
  CHECK(grad_scale > 0 && std::isfinite(grad_scale)) << "[engine] grad_scale " << grad_scale;
  (cuda_ != nullptr ? static_cast<double*>(host_scale_.data()) : grad_scale_.data<double>())[0] =
      grad_scale;
}

absl::StatusOr<double> Engine::Update(const AdamWStep& step, double clip_norm, double grad_scale) {
  context_->set_pass(Pass::kOptimizer);
  if (!dry_run()) {
    optimizer_->SetStep(step);
    SetGradScale(grad_scale);
  }
  STRAKE_RETURN_IF_ERROR(RunPass(UpdatePass{.clip_norm = clip_norm}));
  in_step_ = false;
  STRAKE_ASSIGN_OR_RETURN(const double* values, StepValues());
  STRAKE_RETURN_IF_ERROR(ShareSequenceLosses());
  if (!std::isfinite(values[1])) return GradientError(values[0], values[1]);
  weights_wait_ = weight_gather_.has_value();
  if (mesh_->gradient_group().options().check) STRAKE_RETURN_IF_ERROR(CompareReplicas());
  return values[1];
}

void Engine::StartGather() {
  const LayerScope layer(*context_, "weights");
  weight_gather_->Start();
}

absl::Status Engine::GatherWeights() {
  if (!std::exchange(weights_wait_, false)) return absl::OkStatus();
  StartGather();
  STRAKE_RETURN_IF_ERROR(weight_gather_->WaitForAll());
  return cuda_ == nullptr ? absl::OkStatus() : AnyGroup().WaitForStream(cuda_->stream());
}

ParameterArena& Engine::parameters() {
  CHECK(!weights_wait_) << "[engine] parameters() before GatherWeights()";
  return parameters_;
}

// Any group, to wait for the GPU in. Groups fail together, so any group of more than one rank
// detects a failure.
Communicator& Engine::AnyGroup() const {
  if (tp_.size() > 1) return mesh_->communicator(MeshAxis::kTp);
  return has_stages() ? mesh_->communicator(MeshAxis::kPp) : mesh_->gradient_group();
}

// On a GPU, waits for all enqueued work.
absl::StatusOr<const double*> Engine::StepValues() {
  static constexpr double kNothing[3] = {};
  if (dry_run()) return kNothing;
  const Tensor& values = step_values_;
  if (cuda_ == nullptr) return values.data<double>();
  const double* host = static_cast<const double*>(host_values_.data());
  if (values_fetched_) return host;
  const ProfileSpan span(context_->profile(), {.category = "wait", .name = "gpu"});
  STRAKE_RETURN_IF_ERROR(
      CopyToHost(host_values_.data(), values.raw(), values.num_bytes(), cuda_->stream()));
  STRAKE_RETURN_IF_ERROR(AnyGroup().WaitForStream(cuda_->stream()));
  values_fetched_ = true;
  return host;
}

std::string Engine::FirstWeightNotFinite() const {
  return FirstNonFiniteWeight({&base_, &parameters_});
}

// The weights are still those from the step's start. Where a rank's weights are not finite, they
// caused all values that are not finite.
absl::Status Engine::GradientError(double loss_sum, double norm) const {
  const std::string what = std::isfinite(loss_sum) ? absl::StrCat("the gradient norm is ", norm)
                                                   : absl::StrCat("the loss is ", loss_sum);
  const std::string weight = FirstWeightNotFinite();
  double found = weight == "none" ? 0 : 1;
  for (const MeshAxis axis : kMeshAxes) {
    const Tensor any(&found, DType::kF64, {1});
    STRAKE_RETURN_IF_ERROR(mesh_->communicator(axis).AllReduceMax(any).Wait().status());
  }
  return NonFiniteError(what, found > 0 ? weight : FirstGradientNotFinite());
}

// Searches in the order of the backward pass.
std::string Engine::FirstGradientNotFinite() const {
  for (auto part = grads().rbegin(); part != grads().rend(); ++part) {
    std::string gradient = FirstNonFiniteGradient(parameters_, part->begin, part->values);
    if (gradient != "none") return gradient;
  }
  return "none";
}

absl::Status Engine::NonFiniteError(const std::string& what, const std::string& found) const {
  // If this rank's values are finite, another rank's are not: the barrier returns its error, which
  // names the tensor.
  for (const MeshAxis axis : kMeshAxes) {
    if (found == "none") STRAKE_RETURN_IF_ERROR(mesh_->communicator(axis).Barrier());
  }
  return absl::InternalError(
      absl::StrCat(what, "; the first tensor that is not finite is ", found));
}

absl::StatusOr<Engine::Agreement> Engine::Agree(bool stop, absl::Span<double> sums) {
  STRAKE_ASSIGN_OR_RETURN(const double* step_values, StepValues());
  Communicator& group = mesh_->gradient_group();
  // Tensor-parallel ranks have the same losses already, and of stages only the last has any.
  std::vector<double> values = {stop ? 1.0 : 0.0, step_values[0]};
  values.insert(values.end(), sums.begin(), sums.end());
  // Context-parallel ranks have the losses of their tokens, and the same `sums`.
  if (mesh_->coordinates().cp > 0) std::fill(values.begin() + 2, values.end(), 0);
  const int64_t size = static_cast<int64_t>(values.size());
  const Tensor stops(values.data(), DType::kF64, {1}), all(values.data(), DType::kF64, {size});
  const LayerScope layer(*context_, "control");
  STRAKE_RETURN_IF_ERROR(tp_.AllReduceSum(*context_, stops));
  if (has_stages()) {
    const Tensor of_stages(values.data(), DType::kF64, {2});
    STRAKE_RETURN_IF_ERROR(
        mesh_->communicator(MeshAxis::kPp).AllReduceSum(of_stages).Wait().status());
  }
  if (group.size() > 1) STRAKE_RETURN_IF_ERROR(group.AllReduceSum(all).Wait().status());
  std::copy(values.begin() + 2, values.end(), sums.begin());
  // On a GPU the losses of an evaluation have not been checked before.
  if (!std::isfinite(values[1])) {
    return NonFiniteError(absl::StrCat("the loss is ", values[1]), FirstWeightNotFinite());
  }
  STRAKE_RETURN_IF_ERROR(SetZero(*context_, loss_sum()));
  values_fetched_ = false;
  return Agreement{.loss_sum = values[1], .stop = values[0] > 0};
}

void Engine::set_profile(OpProfile* profile) {
  context_->set_profile(profile);
  for (Communicator* group : mesh_->communicators()) group->set_profile(profile);
  if (Communicator* kv = partial_gradients_->kv_communicator()) kv->set_profile(profile);
  if (stage_ == nullptr) return;
  for (Communicator* link : stage_->links().communicators()) link->set_profile(profile);
}

std::vector<const Communicator*> Engine::communicators() const {
  std::vector<const Communicator*> groups;
  for (const Communicator* group : mesh_->communicators()) {
    if (group->size() > 1) groups.push_back(group);
  }
  if (const Communicator* kv = partial_gradients_->kv_communicator()) groups.push_back(kv);
  if (stage_ == nullptr) return groups;
  for (const Communicator* link : stage_->links().communicators()) groups.push_back(link);
  return groups;
}

}  // namespace strake
