// Times training steps on random tokens: `bazel run //tools:benchmark -- --help`.

#include <sys/resource.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/device/fma_peak.h"
#include "models/initialize.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/engine.h"
#include "tools/engine_options.h"
#include "tools/layout.h"
#include "tools/machine.h"
#include "tools/memory_plan.h"
#include "tools/mesh_wide.h"
#include "tools/options.h"
#include "tools/program.h"
#include "tools/progress.h"
#include "tools/run_on_ranks.h"
#include "tools/user_paths.h"

namespace strake {
namespace {

constexpr int64_t kWarmUpSteps = 2;

struct BenchmarkConfig {
  std::string model = "gpt2-124m";
  int64_t micro_batch = 4;
  int64_t global_batch = 0;
  int64_t seq_len = 64;
  int64_t steps = 10;
  MachineConfig machine;
  LayoutConfig layout;
  bool against_one_rank = false;
  bool json = false;

  int64_t num_tokens() const { return global_batch * seq_len; }  // of a step
};

void AddBenchmarkOptions(BenchmarkConfig* c, OptionSet* options) {
  const Range size = Range::Between(1, 1e9);
  options->Add("model", &c->model, "preset, or path of a Hugging Face config.json");
  options->Add("micro_batch", &c->micro_batch, "sequences per data-parallel rank and pass", size);
  options->Add("global_batch", &c->global_batch,
               "sequences per step, a multiple of --micro_batch times --dp; 0: just that",
               Range::Between(0, 1e9));
  options->Add("seq_len", &c->seq_len, "tokens per sequence", size);
  options->Add("steps", &c->steps, "steps to time, after two to warm up", size);
  AddMachineOptions(&c->machine, options);
  AddCudaGraphOption(&c->machine, options);
  options->Add("against_one_rank", &c->against_one_rank,
               "time one rank with all the layout's threads and batch, too, in turn with it");
  options->Add("json", &c->json, "print one JSON object instead of a table");
  AddLayoutOptions(&c->layout, options);
}

void FillRandomTokens(int64_t step, int64_t vocab_size, const Tensor& x) {
  const Philox random(step, RandomUse::kTesting);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    x.data<int32_t>()[i] = static_cast<int32_t>(random.Bits(i) % vocab_size);
  }
}

double Median(std::vector<double> sorted) {
  std::sort(sorted.begin(), sorted.end());
  const size_t n = sorted.size();
  return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

// One rank's training steps on random tokens.
class Steps {
 public:
  static absl::StatusOr<std::unique_ptr<Steps>> Create(const BenchmarkConfig& config,
                                                       const ModelConfig& model, const Mesh& mesh) {
    std::unique_ptr<Steps> steps(new Steps(config, mesh));
    STRAKE_ASSIGN_OR_RETURN(steps->engine_, Engine::Create(EngineOptionsOf(config, model), mesh));
    Engine& engine = *steps->engine_;
    STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/1, engine.team(), &engine.parameters()));
    STRAKE_RETURN_IF_ERROR(engine.optimizer().SetMasters());
    return steps;
  }

  Engine& engine() { return *engine_; }

  // Returns its seconds, from when all ranks are there to when all are done.
  absl::StatusOr<double> Run(int64_t step) {
    STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh_));
    const double start = MonotonicSeconds();
    const int64_t per_pass = config_.micro_batch * mesh_.sizes().dp;
    for (int64_t done = per_pass; done <= config_.global_batch; done += per_pass) {
      FillRandomTokens(2 * step, engine_->model().config().vocab_size, tokens_);
      FillRandomTokens(2 * step + 1, engine_->model().config().vocab_size, targets_);
      STRAKE_RETURN_IF_ERROR(engine_->AccumulateGradients(
          tokens_, targets_, 1.0 / config_.num_tokens(), done == config_.global_batch));
    }
    STRAKE_RETURN_IF_ERROR(engine_->SumGradients());
    STRAKE_RETURN_IF_ERROR(
        engine_->Update({.lr = 1e-4, .weight_decay = 0.1, .step = step}, /*clip_norm=*/1).status());
    STRAKE_RETURN_IF_ERROR(MeshBarrier(mesh_));
    return MonotonicSeconds() - start;
  }

 private:
  Steps(const BenchmarkConfig& config, const Mesh& mesh)
      : config_(config),
        mesh_(mesh),
        tokens_(DType::kI32, {config.micro_batch * config.seq_len}),
        targets_(DType::kI32, {config.micro_batch * config.seq_len}) {}

  const BenchmarkConfig& config_;
  const Mesh& mesh_;
  const TensorBuffer tokens_, targets_;
  std::unique_ptr<Engine> engine_;
};

// One rank, with all the threads and the batch of a layout, on a thread of its own: OpenMP's
// threads belong to the thread that they serve.
class OneRank {
 public:
  OneRank(BenchmarkConfig config, const ModelConfig& model) : config_(std::move(config)) {
    config_.machine.threads *= config_.layout.num_ranks();
    config_.layout = LayoutConfig();
    thread_ = std::thread([this, model] { Loop(model); });
  }
  ~OneRank() {
    stop_ = true;
    start_.release();
    thread_.join();
  }

  const BenchmarkConfig& config() const { return config_; }

  // The caller's thread sleeps meanwhile.
  absl::StatusOr<double> Run(int64_t step) {
    step_ = step;
    start_.release();
    done_.acquire();
    return seconds_;
  }

 private:
  void Loop(const ModelConfig& model) {
    const Mesh mesh = Mesh::SingleRank();
    const auto steps = Steps::Create(config_, model, mesh);
    for (start_.acquire(); !stop_; start_.acquire()) {
      seconds_ = steps.ok() ? (*steps)->Run(step_) : steps.status();
      done_.release();
    }
  }

  BenchmarkConfig config_;
  std::binary_semaphore start_{0}, done_{0};
  bool stop_ = false;
  int64_t step_ = 0;
  absl::StatusOr<double> seconds_ = 0.0;
  std::thread thread_;
};

// What the first rank measures of all.
struct Measurement {
  std::vector<double> step_seconds, one_rank_seconds;
  OpProfile profile;          // the first rank's
  double fma_peak_flops = 0;  // of all ranks' threads; the better of before and after
  double planned_bytes = 0;   // on all ranks
  double peak_rss_bytes = 0;  // of this process
};

absl::StatusOr<double> SumOverRanks(const Mesh& mesh, double x) {
  for (const MeshAxis axis : {MeshAxis::kDp, MeshAxis::kTp}) {
    Communicator& group = mesh.communicator(axis);
    STRAKE_RETURN_IF_ERROR(group.AllReduceSum(Tensor(&x, DType::kF64, {1})).Wait().status());
  }
  return x;
}

// `one_rank` is the first rank's alone, and null where nobody asked for it.
absl::Status Measure(const BenchmarkConfig& config, Steps& steps, OneRank* one_rank,
                     Measurement* result) {
  Engine& engine = steps.engine();
  const auto measure_peak = [&]() -> absl::Status {
    STRAKE_RETURN_IF_ERROR(MeshBarrier(engine.mesh()));
    STRAKE_ASSIGN_OR_RETURN(const double flops,
                            SumOverRanks(engine.mesh(), MeasureFmaPeakFlops(engine.team())));
    result->fma_peak_flops = std::max(result->fma_peak_flops, flops);
    return absl::OkStatus();
  };
  STRAKE_RETURN_IF_ERROR(measure_peak());
  for (int64_t step = 1; step <= kWarmUpSteps + config.steps; ++step) {
    const bool timed = step > kWarmUpSteps;
    engine.context().set_profile(timed ? &result->profile : nullptr);
    STRAKE_ASSIGN_OR_RETURN(const double seconds, steps.Run(step));
    if (timed) result->step_seconds.push_back(seconds);
    if (one_rank == nullptr) continue;
    STRAKE_ASSIGN_OR_RETURN(const double alone, one_rank->Run(step));
    if (timed) result->one_rank_seconds.push_back(alone);
  }
  STRAKE_RETURN_IF_ERROR(measure_peak());
  STRAKE_ASSIGN_OR_RETURN(result->planned_bytes,
                          SumOverRanks(engine.mesh(), double(engine.memory_plan().total_bytes())));
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  result->peak_rss_bytes = usage.ru_maxrss * 1024.0;
  return absl::OkStatus();
}

nlohmann::ordered_json OpKinds(const OpProfile& profile, int64_t steps) {
  auto json = nlohmann::ordered_json::array();
  for (const auto& [key, entry] : profile.entries()) {
    nlohmann::ordered_json op;
    op["op"] = key.first;
    op["pass"] = PassName(key.second);
    op["seconds_per_step"] = entry.seconds / steps;
    op["calls_per_step"] = double(entry.calls) / steps;
    op["gflops"] = entry.flops / entry.seconds / 1e9;
    json.push_back(op);
  }
  return json;
}

nlohmann::ordered_json Report(const BenchmarkConfig& config, const ModelConfig& model,
                              const Measurement& m) {
  const double tokens = config.num_tokens(), seconds = Median(m.step_seconds);
  const double flops = TrainingFlopsPerToken(model, config.seq_len) * tokens;
  nlohmann::ordered_json json;
  json["model"] = config.model;
  json["parameters"] = NumParameters(model);
  json["micro_batch"] = config.micro_batch;
  json["global_batch"] = config.global_batch;
  json["seq_len"] = config.seq_len;
  json["steps"] = config.steps;
  json["dtype"] = config.machine.dtype;
  json["threads"] = config.machine.threads;
  json["ops"] = config.machine.ops;
  json["tp"] = config.layout.tp;
  json["dp"] = config.layout.dp;
  json["sequence_parallel"] = config.layout.sequence_parallel;
  json["zero"] = config.layout.zero;
  json["comm"] = config.layout.comm;
  json["seconds_per_step"] = seconds;
  json["tokens_per_second"] = tokens / seconds;
  json["gflops"] = flops / seconds / 1e9;
  json["fma_peak_gflops"] = m.fma_peak_flops / 1e9;
  json["percent_of_fma_peak"] = 100 * flops / seconds / m.fma_peak_flops;
  json["planned_bytes"] = m.planned_bytes;
  json["peak_rss_bytes"] = m.peak_rss_bytes;
  if (!m.one_rank_seconds.empty()) {
    const double alone = Median(m.one_rank_seconds);
    json["one_rank"] = {{"threads", config.machine.threads * config.layout.num_ranks()},
                        {"seconds_per_step", alone},
                        {"ratio", alone / seconds}};
  }
  json["op_kinds"] = OpKinds(m.profile, config.steps);
  return json;
}

void PrintLayout(const nlohmann::ordered_json& r) {
  const int64_t tp = r["tp"], dp = r["dp"];
  if (tp * dp == 1) return;
  std::cout << absl::StrFormat(
      "tp %d x dp %d = %d ranks (%s) of that many threads%s, ZeRO %d; ops below are the first "
      "rank's\n",
      tp, dp, tp * dp, r["comm"].get<std::string>(),
      r["sequence_parallel"].get<bool>() ? ", sequence parallel" : "", r["zero"].get<int64_t>());
}

void PrintOneRank(const nlohmann::ordered_json& r) {
  if (!r.contains("one_rank")) return;
  const auto& one = r["one_rank"];
  std::cout << absl::StrFormat(
      "one rank with %d threads, in turn: %.1f ms per step; the layout has %.3f of its speed\n",
      one["threads"].get<int64_t>(), 1e3 * one["seconds_per_step"].get<double>(),
      one["ratio"].get<double>());
}

void PrintTable(const nlohmann::ordered_json& r) {
  std::cout << absl::StrFormat(
      "%s (%s parameters), batch %d x %d, %s, %d threads, %s ops\n", r["model"].get<std::string>(),
      FormatCount(r["parameters"]), r["global_batch"].get<int64_t>(), r["seq_len"].get<int64_t>(),
      r["dtype"].get<std::string>(), r["threads"].get<int64_t>(), r["ops"].get<std::string>());
  PrintLayout(r);
  std::cout << absl::StrFormat(
      "%.1f tokens/s, %.1f ms per step (median of %d)\n", r["tokens_per_second"].get<double>(),
      1e3 * r["seconds_per_step"].get<double>(), r["steps"].get<int64_t>());
  std::cout << absl::StrFormat(
      "%.1f GFLOP/s, %.1f %% of the %.1f GFLOP/s of fused multiply-adds measured in this run\n",
      r["gflops"].get<double>(), r["percent_of_fma_peak"].get<double>(),
      r["fma_peak_gflops"].get<double>());
  PrintOneRank(r);
  std::cout << absl::StrFormat("memory: %s planned, %s resident at the peak\n\n",
                               FormatBytes(r["planned_bytes"]), FormatBytes(r["peak_rss_bytes"]));
  std::cout << absl::StrFormat("%-22s %-10s %12s %8s %8s %10s\n", "op", "pass", "ms per step",
                               "share", "calls", "GFLOP/s");
  double sum = 0;
  const double step_seconds = r["seconds_per_step"];
  std::vector<nlohmann::ordered_json> ops = r["op_kinds"];
  std::stable_sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) {
    return a["seconds_per_step"].template get<double>() >
           b["seconds_per_step"].template get<double>();
  });
  for (const auto& op : ops) {
    const double seconds = op["seconds_per_step"], gflops = op["gflops"];
    sum += seconds;
    std::cout << absl::StrFormat(
        "%-22s %-10s %12.3f %6.1f %% %8.0f %10s\n", op["op"].get<std::string>(),
        op["pass"].get<std::string>(), 1e3 * seconds, 100 * seconds / step_seconds,
        op["calls_per_step"].get<double>(), gflops > 0 ? absl::StrFormat("%.1f", gflops) : "");
  }
  std::cout << absl::StrFormat("%-33s %12.3f %6.1f %%\n", "outside of ops",
                               1e3 * (step_seconds - sum), 100 * (1 - sum / step_seconds));
}

absl::Status Benchmark(int argc, char** argv) {
  ChangeToUserDirectory();
  BenchmarkConfig config;
  OptionSet options("benchmark");
  AddBenchmarkOptions(&config, &options);
  const std::string help = options.Help();
  STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
  if (options.help_requested()) {
    std::cout << help;
    return FlushStdout();
  }
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(config.model, /*notices=*/nullptr));
  STRAKE_RETURN_IF_ERROR(CheckSeqLen(model, config.seq_len));
  STRAKE_RETURN_IF_ERROR(CheckProcesses(config.layout));
  STRAKE_RETURN_IF_ERROR(CheckLayout(config.layout, model, config.seq_len));
  if (config.global_batch == 0) config.global_batch = config.micro_batch * config.layout.dp;
  STRAKE_RETURN_IF_ERROR(CheckBatch(config.layout, config.micro_batch, config.global_batch));
  STRAKE_RETURN_IF_ERROR(ResolveMachine(config.layout, &config.machine));
  if (config.against_one_rank && config.layout.comm != "threads") {
    // Waiting processes would keep the cores from the one rank.
    return absl::InvalidArgumentError("--against_one_rank is for --comm=threads");
  }
  STRAKE_RETURN_IF_ERROR(CheckMemory(EngineOptionsOf(config, model), config.layout.sizes(),
                                     NumRanksInMemory(config.machine, config.layout)));
  std::optional<OneRank> one_rank;
  if (config.against_one_rank) one_rank.emplace(config, model);
  Measurement measurement;
  bool is_first_rank = false;
  STRAKE_RETURN_IF_ERROR(RunOnRanks(config.layout, [&](const Mesh& mesh) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Steps> steps, Steps::Create(config, model, mesh));
    if (mesh.rank() == 0) {
      is_first_rank = true;
      return Measure(config, *steps, one_rank ? &*one_rank : nullptr, &measurement);
    }
    Measurement of_the_first_rank;
    return Measure(config, *steps, /*one_rank=*/nullptr, &of_the_first_rank);
  }));
  if (!is_first_rank) return absl::OkStatus();
  const nlohmann::ordered_json report = Report(config, model, measurement);
  if (config.json) {
    std::cout << report.dump() << "\n";
  } else {
    PrintTable(report);
  }
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::OpenStandardStreams();
  return strake::ExitCode(strake::Benchmark(argc, argv));
}
