#include "tools/kernels/step_launches.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/emulated_gpu.h"
#include "models/families/families.h"
#include "models/head_loss.h"
#include "parallel/mesh/mesh.h"
#include "tools/cli/user_paths.h"
#include "tools/kernels/compiled_kernels.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

// Rates that an H200 reaches, per second (docs/performance.md): good to tell what is 1 % of a step.
constexpr double kProductFlops = 790e12, kAttentionFlops = 450e12, kBytes = 4.3e12;

double Seconds(const OpCall& call) {
  const double flops =
      absl::string_view(call.op) == "causal_attention" ? kAttentionFlops : kProductFlops;
  return std::max(call.cost.flops / flops, call.cost.bytes / kBytes);
}

int64_t Count(const testing::CudaDim3& shape) { return int64_t{shape.x} * shape.y * shape.z; }

absl::StatusOr<EngineOptions> OptionsOf(const Step& step) {
  std::string model = step.model;
  if (absl::EndsWith(model, ".json")) {
    STRAKE_ASSIGN_OR_RETURN(model, RunfilePath(model));
  }
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig config, FindModelConfig(model, /*notices=*/nullptr));
  return EngineOptions{.model = config,
                       .seq_len = step.seq_len,
                       .micro_batch = step.micro_batch,
                       .dtype = DType::kBf16,
                       .device = Device::kCuda,
                       .logits_chunk = LogitsChunk::For(Device::kCuda)};
}

absl::Status RunStep(Engine& engine) {
  const int64_t num_tokens = engine.options().micro_batch * engine.options().seq_len;
  const TensorBuffer tokens(DType::kI32, {num_tokens});
  STRAKE_RETURN_IF_ERROR(
      engine.AccumulateGradients(tokens.tensor(), tokens.tensor(), /*scale=*/1, /*last=*/true));
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  STRAKE_RETURN_IF_ERROR(engine.Update({.step = 1}, /*clip_norm=*/1).status());
  return engine.Agree(/*stop=*/false).status();
}

}  // namespace

const std::vector<Step>& H200Steps() {
  static const auto* steps = new std::vector<Step>{
      {"gpt2-124m", "gpt2-124m", 64, 1024},
      {"gpt2-1558m", "gpt2-1558m", 32, 1024},
      {"llama-3-8b, 16 layers", "tools/gpu_bundle/models/llama-3-8b-16-layers.json", 2, 8192},
  };
  return *steps;
}

absl::StatusOr<StepLaunches> RecordStepLaunches(const Step& step) {
  OpRecorder recorder;
  std::vector<std::pair<size_t, Launch>> seen;  // with the number of calls before it
  testing::EmulatedGpuOptions gpu;
  gpu.memory_bytes = size_t{1} << 38;
  gpu.on_launch = [&](const testing::CudaLaunch& launch) {
    seen.push_back({recorder.calls().size(),
                    {.kernel = ShortKernelName(launch.kernel),
                     .blocks = Count(launch.grid),
                     .threads = Count(launch.block),
                     .dynamic_shared_bytes = static_cast<int64_t>(launch.dynamic_shared_bytes)}});
  };
  const testing::ScopedEmulatedGpu scoped(gpu);
  const Mesh mesh = Mesh::SingleRank();
  STRAKE_ASSIGN_OR_RETURN(const EngineOptions options, OptionsOf(step));
  STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(options, mesh));
  STRAKE_RETURN_IF_ERROR(engine->optimizer().SetMasters());
  engine->context().set_recorder(&recorder);
  seen.clear();
  STRAKE_RETURN_IF_ERROR(RunStep(*engine));

  double total = 0;
  for (const OpCall& call : recorder.calls()) total += Seconds(call);
  StepLaunches result = {.step = step, .calls = recorder.calls()};
  std::map<Launch, size_t> counted;  // an op that launches a kernel twice takes its time once
  for (const auto& [num_calls, launch] : seen) {
    LaunchTotals& totals = result.launches[launch];
    ++totals.times;
    if (num_calls == 0 || std::exchange(counted[launch], num_calls) == num_calls) continue;
    totals.share += Seconds(recorder.calls()[num_calls - 1]) / total;
  }
  return result;
}

}  // namespace strake
