#include "train/engine/step_record.h"

#include <memory>

#include "core/tensor/tensor.h"
#include "glog/logging.h"
#include "optim/adamw.h"

namespace strake {
namespace {

// `recorder` may be null.
MemoryPlan DryRunStep(const EngineOptions& options, const MeshVector& sizes, int rank,
                      int64_t num_micro_batches, OpRecorder* recorder) {
  CHECK_GT(num_micro_batches, 0) << "[step_record] num_micro_batches";
  const Mesh mesh = Mesh::DryRun(sizes, rank, recorder);
  const std::unique_ptr<Engine> engine = Engine::DryRun(options, mesh, recorder);
  const Tensor tokens(nullptr, DType::kI32, {options.micro_batch * options.seq_len},
                      options.device);
  const auto accumulate = [&](int64_t times, bool last) {
    if (times == 0) return;
    if (recorder != nullptr) recorder->set_times(times);
    const absl::Status status = engine->AccumulateGradients(tokens, tokens, /*scale=*/1, last);
    CHECK(status.ok()) << status;
  };
  const bool several = num_micro_batches > 1;
  accumulate(several ? 1 : 0, /*last=*/false);
  accumulate(several ? num_micro_batches - 2 : 0, /*last=*/false);
  accumulate(1, /*last=*/true);
  CHECK(engine->SumGradients().ok());
  CHECK(engine->Update(AdamWStep(), /*clip_norm=*/1).ok());
  CHECK(engine->Agree(/*stop=*/false).ok());
  return engine->memory_plan();
}

}  // namespace

StepRecord RecordStep(const EngineOptions& options, const MeshVector& sizes, int rank,
                      int64_t num_micro_batches) {
  OpRecorder recorder;
  const MemoryPlan memory = DryRunStep(options, sizes, rank, num_micro_batches, &recorder);
  return {.calls = recorder.calls(), .memory = memory};
}

MemoryPlan PlanMemory(const EngineOptions& options, const MeshVector& sizes, int rank) {
  return DryRunStep(options, sizes, rank, /*num_micro_batches=*/1, /*recorder=*/nullptr);
}

}  // namespace strake
