// Times training steps on random tokens: `bazel run //tools:benchmark -- --help`.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "core/base/json.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/base/work_state.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/cuda_op_profile.h"
#include "core/device/fma_peak.h"
#include "core/device/memory_stream.h"
#include "core/device/op_call.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "parallel/comm/collective_timing.h"
#include "parallel/mesh/mesh.h"
#include "tools/benchmarking/benchmark_config.h"
#include "tools/benchmarking/benchmark_ops.h"
#include "tools/benchmarking/benchmark_report.h"
#include "tools/benchmarking/benchmark_steps.h"
#include "tools/benchmarking/tune_products.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/run_on_ranks.h"
#include "tools/cli/terminal_lines.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "train/engine/mesh_wide.h"
#include "train/engine/stage_models.h"
#include "train/engine/step_record.h"
#include "train/plan/gpu_limits.h"
#include "train/plan/gpu_rates.h"
#include "train/plan/step_times.h"

namespace strake {
namespace {

constexpr int64_t kWarmUpSteps = 2;
constexpr int64_t kProfiledGpuSteps = 3;
constexpr size_t kStreamBytes = size_t{512} << 20;  // for all ranks that share a memory
constexpr int kStreamPasses = 8;

absl::StatusOr<double> SumOverRanks(const Mesh& mesh, double x) {
  for (const MeshAxis axis : kMeshAxes) {
    Communicator& group = mesh.communicator(axis);
    STRAKE_RETURN_IF_ERROR(group.AllReduceSum(Tensor(&x, DType::kF64, {1})).Wait().status());
  }
  return x;
}

absl::StatusOr<size_t> FreeGpuBytes(int device) {
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(device));
  return gpu.free_bytes;
}

// Raises `best` to the sum of the ranks' simultaneous measurements.
absl::Status RaiseBest(const Mesh& mesh, absl::FunctionRef<double()> measure, double* best) {
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh));
  STRAKE_ASSIGN_OR_RETURN(const double sum, SumOverRanks(mesh, measure()));
  *best = std::max(*best, sum);
  return absl::OkStatus();
}

absl::Status MeasureMemory(const BenchmarkConfig& config, const Mesh& mesh, ThreadTeam& team,
                           BenchmarkMeasurement* result) {
  MemoryStream stream(&team, kStreamBytes / NumRanksInMemory(config.machine, config.layout));
  for (int pass = 0; pass < kStreamPasses; ++pass) {
    STRAKE_RETURN_IF_ERROR(RaiseBest(
        mesh, [&] { return stream.MeasurePass(); }, &result->memory_bytes_per_second));
  }
  return absl::OkStatus();
}

void Tell(const OnWork& on_work, WorkState work) {
  if (on_work != nullptr) on_work(work);
}

// Runs while no model is in memory, since a model may leave no room.
absl::Status MeasurePeaks(const BenchmarkConfig& config, const Mesh& mesh, const OnWork& on_work,
                          BenchmarkMeasurement* result) {
  Tell(on_work, {.what = "measuring the machine"});
  ThreadTeam team(config.machine.threads);
  STRAKE_RETURN_IF_ERROR(RaiseBest(
      mesh, [&] { return MeasureFmaPeakFlops(team); }, &result->fma_peak_flops));
  if (config.machine.dtype_kind() == DType::kBf16) {
    STRAKE_RETURN_IF_ERROR(RaiseBest(
        mesh, [&] { return MeasureBf16PeakFlops(team); }, &result->bf16_peak_flops));
  }
  STRAKE_RETURN_IF_ERROR(MeasureMemory(config, mesh, team, result));
  return MeshBarrier(mesh);
}

absl::StatusOr<StepTimes> ForecastOnGpu(const BenchmarkConfig& config, const std::string& gpu_name,
                                        const std::vector<OpCall>& calls) {
  if (config.num_gpus() < config.layout.num_ranks()) {
    return absl::InvalidArgumentError("the ranks share one GPU");
  }
  if (config.layout.pp > 1) {
    return absl::InvalidArgumentError("the stages of a pipeline wait for each other");
  }
  STRAKE_ASSIGN_OR_RETURN(const GpuRates rates, GpuRates::OfGpu(gpu_name));
  return ForecastStep(calls, rates, {.atomic_attention = !config.machine.deterministic});
}

double PeakRssBytes() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024.0;
}

// Resets the peak that PeakRssBytes() reports.
void ForgetPeakRss() { std::ofstream("/proc/self/clear_refs") << "5"; }

// `one_rank` is on the first rank alone, and null unless requested; `profile` is null on a GPU.
absl::Status TimeSteps(const BenchmarkConfig& config, BenchmarkSteps& steps,
                       BenchmarkOnOneRank* one_rank, OpProfile* profile, const OnWork& on_work,
                       BenchmarkMeasurement* result) {
  for (int64_t step = 1; step <= kWarmUpSteps + config.steps; ++step) {
    Tell(on_work, {.what = "timing steps",
                   .done = static_cast<double>(step - 1),
                   .total = static_cast<double>(kWarmUpSteps + config.steps),
                   .unit = WorkUnit::kCount});
    const bool timed = step > kWarmUpSteps;
    steps.engine().context().set_profile(timed ? profile : nullptr);
    STRAKE_ASSIGN_OR_RETURN(const double seconds, steps.Run(step));
    if (timed) result->step_seconds.push_back(seconds);
    if (one_rank == nullptr) continue;
    STRAKE_ASSIGN_OR_RETURN(const double alone, one_rank->Run(step));
    if (timed) result->one_rank_seconds.push_back(alone);
  }
  steps.engine().context().set_profile(nullptr);
  return absl::OkStatus();
}

absl::Status MeasureOnCpu(const BenchmarkConfig& config, BenchmarkSteps& steps,
                          BenchmarkOnOneRank* one_rank, const OnWork& on_work,
                          BenchmarkMeasurement* result) {
  OpProfile profile;
  STRAKE_RETURN_IF_ERROR(TimeSteps(config, steps, one_rank, &profile, on_work, result));
  result->ops = profile.entries();
  result->num_profiled_steps = config.steps;
  for (const double seconds : result->step_seconds) result->profiled_seconds += seconds;
  return absl::OkStatus();
}

absl::Status ProfileOnCuda(const BenchmarkConfig& config, BenchmarkSteps& steps,
                           BenchmarkMeasurement* result) {
  Engine& engine = steps.engine();
  CudaOpProfile profile(engine.cuda()->stream());
  std::vector<std::shared_ptr<CollectiveTiming>> timings;
  const auto observe = [&](OpProfile* ops, std::vector<std::shared_ptr<CollectiveTiming>>* calls) {
    engine.context().set_profile(ops);
    for (Communicator* group : engine.mesh().communicators()) group->set_timings(calls);
  };
  observe(&profile, &timings);
  for (int64_t i = 1; i <= kProfiledGpuSteps; ++i) {
    STRAKE_ASSIGN_OR_RETURN(const double seconds, steps.Run(kWarmUpSteps + config.steps + i));
    result->profiled_seconds += seconds;
    STRAKE_RETURN_IF_ERROR(profile.Resolve());
  }
  observe(nullptr, nullptr);
  STRAKE_ASSIGN_OR_RETURN(result->communication, SumSeconds(timings));
  result->ops = profile.entries();
  result->num_profiled_steps = kProfiledGpuSteps;
  return absl::OkStatus();
}

// `free_bytes` is the free memory before the ranks began.
absl::Status MeasureOnCuda(const BenchmarkConfig& config, size_t free_bytes, BenchmarkSteps& steps,
                           const OnWork& on_work, BenchmarkMeasurement* result) {
  STRAKE_RETURN_IF_ERROR(
      TimeSteps(config, steps, /*one_rank=*/nullptr, /*profile=*/nullptr, on_work, result));
  Tell(on_work, {.what = "timing ops in steps"});
  STRAKE_RETURN_IF_ERROR(ProfileOnCuda(config, steps, result));
  const Mesh& mesh = steps.engine().mesh();
  STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh));
  STRAKE_ASSIGN_OR_RETURN(const size_t free_now, FreeGpuBytes(steps.engine().cuda()->device()));
  // Ranks that share a GPU measure the same memory.
  const bool counts = config.num_gpus() > 1 || mesh.rank() == 0;
  STRAKE_ASSIGN_OR_RETURN(result->observed_gpu_bytes,
                          SumOverRanks(mesh, counts ? double(free_bytes) - double(free_now) : 0.0));
  return absl::OkStatus();
}

absl::Status MeasureSteps(const BenchmarkConfig& config, const ModelConfig& model, const Mesh& mesh,
                          BenchmarkOnOneRank* one_rank, size_t free_gpu_bytes,
                          const OnWork& on_work, BenchmarkMeasurement* result) {
  Tell(on_work, {.what = "making the model"});
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<BenchmarkSteps> steps,
                          BenchmarkSteps::Create(config, model, mesh));
  STRAKE_RETURN_IF_ERROR(config.on_cuda()
                             ? MeasureOnCuda(config, free_gpu_bytes, *steps, on_work, result)
                             : MeasureOnCpu(config, *steps, one_rank, on_work, result));
  STRAKE_ASSIGN_OR_RETURN(result->planned_bytes,
                          SumOverRanks(mesh, double(steps->engine().memory_plan().total_bytes())));
  result->attention_note = steps->engine().attention_note();
  result->peak_rss_bytes = PeakRssBytes();
  return absl::OkStatus();
}

absl::Status Measure(const BenchmarkConfig& config, const ModelConfig& model, const Mesh& mesh,
                     BenchmarkOnOneRank* one_rank, size_t free_gpu_bytes, const OnWork& on_work,
                     BenchmarkMeasurement* result) {
  if (!config.on_cuda()) {
    STRAKE_RETURN_IF_ERROR(MeasurePeaks(config, mesh, on_work, result));
    ForgetPeakRss();
  }
  STRAKE_RETURN_IF_ERROR(
      MeasureSteps(config, model, mesh, one_rank, free_gpu_bytes, on_work, result));
  return config.on_cuda() ? absl::OkStatus() : MeasurePeaks(config, mesh, on_work, result);
}

// The calls of a rank, or of one of each stage, whose steps have the number of micro-batches that
// they are laid out for.
std::vector<OpCall> StepCalls(const BenchmarkConfig& config, const ModelConfig& model,
                              int64_t num_micro_batches) {
  const MeshVector sizes = config.layout.sizes();
  if (sizes.pp > 1) num_micro_batches = config.num_micro_batches();
  const EngineOptions options = WithLayersOfParts(config.RankOptions(model), sizes.pp);
  std::vector<OpCall> calls;
  for (int stage = 0; stage < sizes.pp; ++stage) {
    const StepRecord record =
        RecordStep(options, sizes, FirstRankOfStage(sizes, stage), num_micro_batches);
    calls.insert(calls.end(), record.calls.begin(), record.calls.end());
  }
  return calls;
}

// Runs before the ranks begin, and after they have ended: the clock changes as the GPU warms up.
absl::Status MeasureGpu(const BenchmarkConfig& config, const ModelConfig& model,
                        BenchmarkMeasurement* result) {
  const int device = CudaDeviceOf(config.layout);
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(device));
  result->gpu_name = gpu.name;
  STRAKE_ASSIGN_OR_RETURN(
      const GpuLimits limits,
      MeasureGpuLimits(device, config.machine.dtype_kind(),
                       LargestProducts(StepCalls(config, model, /*num_micro_batches=*/1))));
  result->gpu = BetterOf(result->gpu, limits);
  result->forecast =
      ForecastOnGpu(config, gpu.name, StepCalls(config, model, config.num_micro_batches()));
  return absl::OkStatus();
}

// True where this process has the first rank, which measures.
absl::StatusOr<bool> MeasureRanks(const BenchmarkConfig& config, const ModelConfig& model,
                                  const OnWork& on_work, BenchmarkMeasurement* result) {
  size_t free_gpu_bytes = 0;
  if (config.on_cuda()) {
    Tell(on_work, {.what = "measuring the GPU"});
    STRAKE_RETURN_IF_ERROR(MeasureGpu(config, model, result));
    STRAKE_ASSIGN_OR_RETURN(free_gpu_bytes, FreeGpuBytes(CudaDeviceOf(config.layout)));
  }
  std::optional<BenchmarkOnOneRank> one_rank;
  if (config.against_one_rank) one_rank.emplace(config, model);
  bool is_first_rank = false;
  STRAKE_RETURN_IF_ERROR(RunOnRanks(config.layout, [&](const Mesh& mesh) -> absl::Status {
    BenchmarkMeasurement of_another_rank;
    if (mesh.rank() != 0) {
      return Measure(config, model, mesh, /*one_rank=*/nullptr, free_gpu_bytes,
                     /*on_work=*/nullptr, &of_another_rank);
    }
    is_first_rank = true;
    return Measure(config, model, mesh, one_rank ? &*one_rank : nullptr, free_gpu_bytes, on_work,
                   result);
  }));
  if (config.on_cuda()) {
    Tell(on_work, {.what = "measuring the GPU once more"});
    STRAKE_RETURN_IF_ERROR(MeasureGpu(config, model, result));
  }
  return is_first_rank;
}

absl::Status Benchmark(int argc, char** argv) {
  ChangeToUserDirectory();
  BenchmarkConfig config;
  OptionSet options("benchmark");
  AddBenchmarkOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(config.model, /*notices=*/nullptr));
  STRAKE_RETURN_IF_ERROR(ResolveBenchmark(model, &config));
  WorkScreen screen(STDERR_FILENO, config.quiet);
  screen->set_line_columns(LineColumns(STDOUT_FILENO));
  if (!config.tune.empty()) {
    // The second micro-batch adds to the gradients of the first.
    STRAKE_RETURN_IF_ERROR(TuneToFile(CudaDeviceOf(config.layout),
                                      StepCalls(config, model, /*num_micro_batches=*/2),
                                      config.tune, &*screen));
    return FlushStdout();
  }
  BenchmarkMeasurement measurement;
  if (config.measure != "step") return BenchmarkOps(config, model, &*screen);
  STRAKE_ASSIGN_OR_RETURN(const bool is_first_rank,
                          MeasureRanks(config, model, screen->Teller(), &measurement));
  screen->EndWork();
  if (!is_first_rank) return absl::OkStatus();
  const nlohmann::ordered_json report = BenchmarkReport(config, model, measurement);
  if (config.json) {
    std::cout << JsonText(report) << "\n";
  } else {
    PrintBenchmarkReport(report, screen->line_columns(), &std::cout);
  }
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Benchmark); }
