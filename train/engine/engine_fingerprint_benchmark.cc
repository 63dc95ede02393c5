// The fingerprints of a run on two data-parallel ranks, of one thread each.
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "benchmark/benchmark.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "models/families/families.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

constexpr int kIterations = 10;
constexpr MeshVector kSizes = {.dp = 2, .pp = 1, .cp = 1, .tp = 1};

// Runs `body` on both ranks, and times it on the first.
void RunOnRanks(benchmark::State& state, const char* model,
                absl::FunctionRef<absl::Status(Engine&)> body) {
  const EngineOptions options = {.model = *ModelPreset(model), .seq_len = 64, .micro_batch = 1};
  const absl::Status status = RunOnThreads(kSizes, {}, [&](const Mesh& mesh) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(options, mesh));
    STRAKE_RETURN_IF_ERROR(InitializeParameters(1, engine->team(), &engine->parameters()));
    if (mesh.rank() == 0) state.counters["weights"] = engine->parameters().num_parameters();
    if (mesh.rank() == 0) {
      for (auto _ : state) STRAKE_RETURN_IF_ERROR(body(*engine));
      return absl::OkStatus();
    }
    for (int i = 0; i < kIterations; ++i) STRAKE_RETURN_IF_ERROR(body(*engine));
    return absl::OkStatus();
  });
  CHECK(status.ok()) << status;
}

// What --comm_check adds to a step.
void BM_CompareReplicas(benchmark::State& state, const char* model) {
  RunOnRanks(state, model, [](Engine& engine) { return engine.CompareReplicas(); });
}
// What a save adds.
void BM_StateFingerprint(benchmark::State& state, const char* model) {
  RunOnRanks(state, model, [](Engine& engine) { return engine.StateFingerprint().status(); });
}
#define STRAKE_FINGERPRINT_BENCHMARK(function, model) \
  BENCHMARK_CAPTURE(function, model, model)           \
      ->Iterations(kIterations)                       \
      ->UseRealTime()                                 \
      ->Unit(benchmark::kMillisecond)
STRAKE_FINGERPRINT_BENCHMARK(BM_CompareReplicas, "llama-tiny");
STRAKE_FINGERPRINT_BENCHMARK(BM_CompareReplicas, "gpt2-124m");
STRAKE_FINGERPRINT_BENCHMARK(BM_StateFingerprint, "llama-tiny");
STRAKE_FINGERPRINT_BENCHMARK(BM_StateFingerprint, "gpt2-124m");

}  // namespace
}  // namespace strake
