#include "tools/engine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "models/non_finite.h"
#include "tools/progress.h"

namespace strake {
namespace {

// The first number after `key` in a file of "key value" lines, or of one number where key is empty.
std::optional<size_t> ReadNumber(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, key.size(), key) != 0) continue;
    std::istringstream rest(line.substr(key.size()));
    size_t number;
    if (rest >> number) return number;
  }
  return std::nullopt;
}

// The memory that the control group's limit leaves, under either version's file names.
std::optional<size_t> ControlGroupBytes() {
  for (const auto& [limit_path, used_path] :
       {std::pair{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const auto limit = ReadNumber(limit_path, ""), used = ReadNumber(used_path, "");
    if (limit.has_value() && used.has_value()) return *limit > *used ? *limit - *used : 0;
  }
  return std::nullopt;
}

// Below what any plan of these options comes to. In floating point, so that no size overflows, and
// without the model, whose tables of positions are allocated in a dry run too.
double LeastBytes(const EngineOptions& options) {
  const ModelConfig& c = options.model;
  const double num_tokens = double(options.seq_len) * options.micro_batch;
  const double layer =
      double(c.hidden_size) + double(c.num_heads) * c.head_dim + c.intermediate_size;
  const double positions =
      c.family == ModelFamily::kLlama ? double(options.seq_len) * c.head_dim : 0;
  return 16.0 * NumParameters(c) + 4 * num_tokens * (c.vocab_size + c.num_layers * layer) +
         8 * positions;
}

absl::Status CheckLeastMemory(const EngineOptions& options) {
  // Where the system does not say: what x86-64 can address.
  const size_t available = AvailableMemoryBytes().value_or(size_t{1} << 47);
  const double least = LeastBytes(options);
  if (least <= double(available)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the run needs more than ", FormatBytes(least), " of memory but ", FormatBytes(available),
      " are free; choose a smaller --model, --micro_batch or --seq_len"));
}

MemoryPlan PlanMemory(const EngineOptions& options) {
  ParameterArena parameters;
  const Transformer model(options.model, options.seq_len, &parameters);
  parameters.AllocateDryRun(DType::kF32);
  ActivationArena plan = ActivationArena::DryRun();
  ThreadTeam team(options.num_threads);
  const Context ctx(&team, &plan, options.op_set);
  const Tensor tokens(nullptr, DType::kI32, {options.micro_batch * options.seq_len});
  TransformerSaved saved;
  CHECK(model.Forward(ctx, tokens, tokens, options.seq_len, &saved).ok());
  CHECK(model.Backward(ctx, 1, &saved).ok());
  return {.parameter_bytes = parameters.values().num_bytes(),
          .gradient_bytes = parameters.grads().num_bytes(),
          .optimizer_bytes = AdamW::StateBytes(parameters),
          .activation_bytes = plan.peak_bytes()};
}

absl::Status CheckMemory(const MemoryPlan& plan) {
  const std::optional<size_t> available = AvailableMemoryBytes();
  if (!available.has_value() || plan.total_bytes() <= *available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the run needs ", FormatBytes(plan.total_bytes()), " of memory (weights ",
      FormatBytes(plan.parameter_bytes), ", gradients ", FormatBytes(plan.gradient_bytes),
      ", optimizer ", FormatBytes(plan.optimizer_bytes), ", activations ",
      FormatBytes(plan.activation_bytes), ") but ", FormatBytes(*available),
      " are free; choose a smaller --model, --micro_batch or --seq_len"));
}

double SumOf(const Tensor& loss) {
  double sum = 0;
  for (int64_t i = 0; i < loss.num_elements(); ++i) sum += loss.data<float>()[i];
  return sum;
}

}  // namespace

std::optional<size_t> AvailableMemoryBytes() {
  std::optional<size_t> available = ReadNumber("/proc/meminfo", "MemAvailable:");
  if (available.has_value()) *available *= 1024;
  if (const auto group = ControlGroupBytes(); group.has_value()) {
    available = std::min(available.value_or(*group), *group);
  }
  return available;
}

Engine::Engine(const EngineOptions& options, const MemoryPlan& plan)
    : options_(options), plan_(plan), mesh_(Mesh::SingleRank()), team_(options.num_threads) {
  model_ = std::make_unique<Transformer>(options_.model, options_.seq_len, &parameters_);
}

absl::Status Engine::Allocate() {
  STRAKE_RETURN_IF_ERROR(parameters_.Allocate(DType::kF32, /*with_gradients=*/true));
  STRAKE_ASSIGN_OR_RETURN(AdamW optimizer, AdamW::Create(parameters_));
  optimizer_.emplace(std::move(optimizer));
  STRAKE_ASSIGN_OR_RETURN(ActivationArena activations,
                          ActivationArena::Create(plan_.activation_bytes));
  activations_.emplace(std::move(activations));
  context_.emplace(&team_, &*activations_, options_.op_set);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options) {
  STRAKE_RETURN_IF_ERROR(CheckLeastMemory(options));
  const MemoryPlan plan = PlanMemory(options);
  STRAKE_RETURN_IF_ERROR(CheckMemory(plan));
  std::unique_ptr<Engine> engine(new Engine(options, plan));
  STRAKE_RETURN_IF_ERROR(engine->Allocate());
  return engine;
}

absl::StatusOr<double> Engine::AccumulateGradients(const Tensor& tokens, const Tensor& targets,
                                                   double scale) {
  const ActivationScope scope(*activations_);
  TransformerSaved saved;
  context_->set_pass(Pass::kForward);
  STRAKE_ASSIGN_OR_RETURN(const Tensor loss,
                          model_->Forward(*context_, tokens, targets, options_.seq_len, &saved));
  STRAKE_ASSIGN_OR_RETURN(const double sum, FiniteSum(loss, saved));
  context_->set_pass(Pass::kBackward);
  STRAKE_RETURN_IF_ERROR(model_->Backward(*context_, scale, &saved));
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
  const double sum = SumOf(loss);
  if (std::isfinite(sum)) return sum;
  return absl::InternalError(absl::StrCat("the loss is ", sum,
                                          "; the first tensor that is not finite is ",
                                          FirstNonFinite(parameters_, saved)));
}

absl::StatusOr<double> Engine::Update(AdamWStep step, double clip_norm) {
  context_->set_pass(Pass::kOptimizer);
  Communicator* const groups[] = {&mesh_.communicator(MeshAxis::kTp)};
  STRAKE_ASSIGN_OR_RETURN(
      const GradClip clip,
      ClipGradNorm(*context_, parameters_, {0, parameters_.num_elements()}, parameters_.grads(),
                   clip_norm, groups));
  if (!std::isfinite(clip.norm)) {
    return absl::InternalError(absl::StrCat("the gradient norm is ", clip.norm,
                                            "; the first tensor that is not finite is ",
                                            FirstNonFiniteGradient(parameters_, 0, parameters_.grads())));
  }
  step.grad_scale = clip.scale;
  STRAKE_RETURN_IF_ERROR(optimizer_->Step(*context_, step));
  parameters_.ZeroGrads();
  return clip.norm;
}

}  // namespace strake
