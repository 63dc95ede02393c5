#include "tools/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"
#include "models/transformer.h"
#include "optim/adamw.h"
#include "optim/grad_clip.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/tensor/partial_gradients.h"
#include "parallel/tensor/tensor_parallel.h"
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
double LeastBytes(const EngineOptions& options, const MeshVector& sizes) {
  const ModelConfig& c = options.model;
  const double num_tokens = double(options.seq_len) * options.micro_batch;
  const double layer =
      double(c.hidden_size) + double(c.num_heads) * c.head_dim + c.intermediate_size;
  const double positions =
      c.family == ModelFamily::kLlama ? double(options.seq_len) * c.head_dim : 0;
  // Weights at least stay whole along dp; gradients and both moments may not.
  return (4 + 12.0 / sizes.dp) * NumParameters(c) / sizes.tp +
         4 * num_tokens * (c.vocab_size + c.num_layers * layer) / sizes.tp + 8 * positions;
}

absl::Status NotEnough(absl::string_view what, size_t available, const MeshVector& sizes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the run needs ", what, " but ", FormatBytes(available),
                   " are free; choose a smaller --model", sizes.dp > 1 ? ", --dp" : "",
                   ", --micro_batch or --seq_len"));
}

// " on each of 4 ranks".
std::string OnEachOf(int num_ranks) {
  return num_ranks == 1 ? "" : absl::StrCat(" on each of ", num_ranks, " ranks");
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

MemoryPlan PlanMemory(const EngineOptions& options, const MeshVector& sizes, int rank) {
  const MeshVector at = CoordinatesOf(sizes, rank);
  const auto tp = TensorParallel::Planned(at.tp, sizes.tp, options.sequence_parallel);
  ParameterArena parameters;
  const Transformer model(options.model, options.seq_len, &parameters, tp);
  parameters.AllocateDryRun(options.dtype);
  ActivationArena plan = ActivationArena::DryRun();
  ThreadTeam team(options.num_threads);
  const Context ctx(&team, &plan, options.op_set);
  const Tensor tokens(nullptr, DType::kI32, {options.micro_batch * options.seq_len});
  {
    const ActivationScope scope(plan);
    TransformerSaved saved;
    CHECK(model.Forward(ctx, tokens, tokens, options.seq_len, &saved).ok());
    CHECK(model.Backward(ctx, 1, &saved).ok());
  }
  const ShardRange range =
      UpdatedRange(parameters.num_elements(), sizes.dp, at.dp, options.gradients.zero);
  const Tensor grads(nullptr, parameters.grads().dtype(), {range.size()});
  CHECK(PartialGradients::Planned(parameters, tp).Sum(ctx, range, grads).ok());
  {
    const ActivationScope scope(plan);
    const Tensor clip = plan.Allocate(DType::kF64, {2});
    CHECK(ClipGradNorm(ctx, parameters, range, grads, /*clip_norm=*/1, {}, clip).ok());
  }
  return {.parameter_bytes = parameters.values().num_bytes(),
          .gradient_bytes =
              GradientReducer::GradientBytes(parameters, sizes.dp, at.dp, options.gradients),
          .optimizer_bytes = AdamW::StateBytes(parameters, range),
          .activation_bytes = plan.peak_bytes()};
}

size_t CheckpointBytes(const EngineOptions& options, const MeshVector& sizes) {
  const bool sharded_state = options.gradients.zero > 0 && sizes.dp > 1;
  if (sizes.tp == 1 && !sharded_state) return 0;
  ParameterArena whole, part;
  const Transformer whole_model(options.model, /*max_seq_len=*/1, &whole);
  const Transformer part_model(options.model, /*max_seq_len=*/1, &part,
                               TensorParallel::Planned(0, sizes.tp));
  int64_t most = 0;
  for (size_t i = 0; i < whole.parameters().size(); ++i) {
    const int64_t part_elements = sizes.tp == 1 ? 0 : part.parameters()[i].num_elements();
    most = std::max(most, whole.parameters()[i].num_elements() + part_elements);
  }
  return most * DTypeSize(options.dtype);
}

absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes,
                         int num_local_ranks) {
  // Where the system does not say: what x86-64 can address.
  const size_t available = AvailableMemoryBytes().value_or(size_t{1} << 47);
  const double least = LeastBytes(options, sizes) * num_local_ranks;
  if (least > double(available)) {
    return NotEnough(absl::StrCat("more than ", FormatBytes(least), " of memory"), available,
                     sizes);
  }
  const MemoryPlan plan = PlanMemory(options, sizes, /*rank=*/0);
  const size_t checkpoint = CheckpointBytes(options, sizes);
  const size_t total = plan.total_bytes() * num_local_ranks + checkpoint;
  if (total <= available) return absl::OkStatus();
  return NotEnough(
      absl::StrCat(FormatBytes(total), " of memory (weights ", FormatBytes(plan.parameter_bytes),
                   ", gradients ", FormatBytes(plan.gradient_bytes), ", optimizer ",
                   FormatBytes(plan.optimizer_bytes), ", activations ",
                   FormatBytes(plan.activation_bytes), OnEachOf(num_local_ranks),
                   checkpoint > 0 ? "; to save, " + FormatBytes(checkpoint) : "", ")"),
      available, sizes);
}

}  // namespace strake
