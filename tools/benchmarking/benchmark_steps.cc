#include "tools/benchmarking/benchmark_steps.h"

#include <utility>

#include "core/base/monotonic_seconds.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "models/initialize.h"
#include "train/engine/mesh_wide.h"

namespace strake {
namespace {

void FillRandomTokens(int64_t step, int64_t vocab_size, const Tensor& x) {
  const Philox random(step, RandomUse::kTesting);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    x.data<int32_t>()[i] = static_cast<int32_t>(random.Bits(i) % vocab_size);
  }
}

}  // namespace

BenchmarkSteps::BenchmarkSteps(const BenchmarkConfig& config, const Mesh& mesh)
    : config_(config),
      mesh_(mesh),
      tokens_(DType::kI32, {config.micro_batch * (config.seq_len / mesh.sizes().cp)}),
      targets_(DType::kI32, tokens_.tensor().shape()) {}

absl::StatusOr<std::unique_ptr<BenchmarkSteps>> BenchmarkSteps::Create(
    const BenchmarkConfig& config, const ModelConfig& model, const Mesh& mesh) {
  std::unique_ptr<BenchmarkSteps> steps(new BenchmarkSteps(config, mesh));
  STRAKE_ASSIGN_OR_RETURN(steps->engine_, Engine::Create(config.RankOptions(model), mesh));
  Engine& engine = *steps->engine_;
  STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/1, engine.team(), &engine.parameters()));
  STRAKE_RETURN_IF_ERROR(engine.optimizer().SetMasters());
  return steps;
}

absl::StatusOr<double> BenchmarkSteps::Run(int64_t step) {
  // The tokens are made before the timing, as training has its batches ready. All micro-batches of
  // a step are the same.
  const int64_t vocab_size = engine_->options().model.vocab_size;
  FillRandomTokens(2 * step, vocab_size, tokens_);
  FillRandomTokens(2 * step + 1, vocab_size, targets_);
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh_));
  const double start = MonotonicSeconds();
  const int64_t per_pass = config_.micro_batch * mesh_.sizes().dp;
  for (int64_t done = per_pass; done <= config_.global_batch; done += per_pass) {
    STRAKE_RETURN_IF_ERROR(engine_->AccumulateGradients(
        tokens_, targets_, 1.0 / config_.num_tokens(), done == config_.global_batch));
  }
  STRAKE_RETURN_IF_ERROR(engine_->SumGradients());
  STRAKE_RETURN_IF_ERROR(
      engine_->Update({.lr = 1e-4, .weight_decay = 0.1, .step = step}, /*clip_norm=*/1).status());
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh_));
  return MonotonicSeconds() - start;
}

BenchmarkOnOneRank::BenchmarkOnOneRank(BenchmarkConfig config, const ModelConfig& model)
    : config_(std::move(config)) {
  config_.machine.threads *= config_.layout.num_ranks();
  config_.layout = LayoutConfig();
  thread_ = std::thread([this, model] { Loop(model); });
}

BenchmarkOnOneRank::~BenchmarkOnOneRank() {
  stop_ = true;
  start_.release();
  thread_.join();
}

absl::StatusOr<double> BenchmarkOnOneRank::Run(int64_t step) {
  step_ = step;
  start_.release();
  done_.acquire();
  return seconds_;
}

void BenchmarkOnOneRank::Loop(const ModelConfig& model) {
  const Mesh mesh = Mesh::SingleRank();
  const auto steps = BenchmarkSteps::Create(config_, model, mesh);
  for (start_.acquire(); !stop_; start_.acquire()) {
    seconds_ = steps.ok() ? (*steps)->Run(step_) : steps.status();
    done_.release();
  }
}

}  // namespace strake
