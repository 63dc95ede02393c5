#include "tools/checkpoint.h"

#include <deque>
#include <vector>

#include "core/base/status_macros.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor_buffer.h"
#include "models/hf_checkpoint.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/tensor/gather_parameter.h"
#include "parallel/tensor/tensor_parallel.h"
#include "tools/durable_file.h"

namespace strake {
namespace {

// The parameters of rank t of T, without memory.
void PlanParameters(const Engine& engine, int rank, int num_ranks, ParameterArena* arena) {
  const Transformer model(engine.model().config(), /*max_seq_len=*/1, arena,
                          TensorParallel::Planned(rank, num_ranks));
  arena->AllocateDryRun(engine.options().dtype);
}

// Brings parameters, one after the other, from all ranks to rank 0.
class Gatherer {
 public:
  explicit Gatherer(Engine& engine) : engine_(engine), parts_(engine.mesh().sizes().tp) {
    PlanParameters(engine, 0, 1, &whole_);
    const int num_ranks = static_cast<int>(parts_.size());
    for (int t = 0; t < num_ranks; ++t) PlanParameters(engine, t, num_ranks, &parts_[t]);
    const int dp = engine.mesh().sizes().dp;
    if (engine.options().gradients.zero == 0 || dp == 1) return;
    const int64_t num_elements = engine.parameters().num_elements();
    for (int r = 0; r < dp; ++r) {
      optimizer_ranges_.push_back(DataParallelRange(num_elements, dp, r));
    }
  }

  const ParameterArena& whole() const { return whole_; }

  // Until the next call.
  absl::StatusOr<Tensor> Weights(int parameter) {
    return Gather(parameter, {}, engine_.parameters().values());
  }
  absl::StatusOr<Tensor> OptimizerState(int parameter, int array) {
    const AdamW& optimizer = engine_.optimizer();
    return Gather(parameter, optimizer_ranges_,
                  array == 0 ? optimizer.exp_avg() : optimizer.exp_avg_sq());
  }

 private:
  absl::StatusOr<Tensor> Gather(int parameter, absl::Span<const ShardRange> ranges,
                                const Tensor& values) {
    std::vector<const Parameter*> parts;
    for (const ParameterArena& part : parts_) parts.push_back(&part.parameters()[parameter]);
    return GatherParameter(engine_.mesh(), parts, whole_.parameters()[parameter], ranges, values,
                           &memory_);
  }

  Engine& engine_;
  ParameterArena whole_;
  std::deque<ParameterArena> parts_;  // by tensor-parallel rank
  std::vector<ShardRange> optimizer_ranges_;
  DeviceMemory memory_;
};

// The calls that rank 0 makes while it writes, in their order.
absl::Status Send(Gatherer& gatherer) {
  const int num_parameters = static_cast<int>(gatherer.whole().parameters().size());
  for (int p = 0; p < num_parameters; ++p) {
    STRAKE_RETURN_IF_ERROR(gatherer.Weights(p).status());
  }
  for (int p = 0; p < num_parameters; ++p) {
    for (const int array : {0, 1}) {
      STRAKE_RETURN_IF_ERROR(gatherer.OptimizerState(p, array).status());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteCheckpoint(const std::string& directory, Engine& engine,
                             const RunRecord& record) {
  Gatherer gatherer(engine);
  if (engine.mesh().rank() != 0) return Send(gatherer);
  const DType dtype = engine.parameters().values().dtype();
  STRAKE_RETURN_IF_ERROR(
      WriteFileDurably(directory + "/config.json", ToHfConfig(engine.model().config(), dtype)));
  STRAKE_RETURN_IF_ERROR(SaveArrays(directory + "/model.safetensors", gatherer.whole(), {""}, dtype,
                                    [&](int p, int) { return gatherer.Weights(p); }));
  STRAKE_RETURN_IF_ERROR(SaveArrays(
      directory + "/optimizer.safetensors", gatherer.whole(), {".exp_avg", ".exp_avg_sq"},
      AccumulationDType(dtype),
      [&](int p, int array) { return gatherer.OptimizerState(p, array); }));
  return WriteFileDurably(directory + "/run.json", ToJson(record));
}

absl::Status LoadCheckpoint(const std::string& directory, Engine& engine) {
  STRAKE_RETURN_IF_ERROR(LoadWeights(directory, engine.parameters()));
  const AdamW& optimizer = engine.optimizer();
  return LoadArrays(directory + "/optimizer.safetensors", engine.parameters(),
                    {{".exp_avg", optimizer.exp_avg(), engine.range().begin},
                     {".exp_avg_sq", optimizer.exp_avg_sq(), engine.range().begin}});
}

}  // namespace strake
