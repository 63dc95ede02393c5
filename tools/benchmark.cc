// Times training steps on random tokens: `bazel run //tools:benchmark -- --help`.

#include <sys/resource.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/device/fma_peak.h"
#include "models/initialize.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/engine.h"
#include "tools/memory_plan.h"
#include "tools/options.h"
#include "tools/program.h"
#include "tools/progress.h"
#include "tools/user_paths.h"

namespace strake {
namespace {

constexpr int64_t kWarmUpSteps = 2;

struct BenchmarkConfig {
  std::string model = "gpt2-124m";
  int64_t micro_batch = 4;
  int64_t seq_len = 64;
  int64_t steps = 10;
  std::string dtype = "fp32";
  int64_t threads = 0;
  std::string ops = "auto";
  bool json = false;
};

void AddBenchmarkOptions(BenchmarkConfig* c, OptionSet* options) {
  const Range size = Range::Between(1, 1e9);
  options->Add("model", &c->model, "preset, or path of a Hugging Face config.json");
  options->Add("micro_batch", &c->micro_batch, "sequences per step", size);
  options->Add("seq_len", &c->seq_len, "tokens per sequence", size);
  options->Add("steps", &c->steps, "steps to time, after two to warm up", size);
  options->Add("dtype", &c->dtype, "of weights and activations; bf16 is not implemented yet",
               {"fp32", "bf16"});
  options->Add("threads", &c->threads, "0: all cores", Range::Between(0, 4096));
  options->Add("ops", &c->ops, "implementations: the fastest, or the Eigen definitions",
               {"auto", "reference"});
  options->Add("json", &c->json, "print one JSON object instead of a table");
}

void FillRandomTokens(int64_t step, int64_t vocab_size, const Tensor& x) {
  const Philox random(step, RandomUse::kTesting);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    x.data<int32_t>()[i] = static_cast<int32_t>(random.Bits(i) % vocab_size);
  }
}

struct Measurement {
  std::vector<double> step_seconds;
  OpProfile profile;
  double fma_peak_flops = 0;  // the better of before and after
  double peak_rss_bytes = 0;
  double MedianSeconds() const {
    std::vector<double> sorted = step_seconds;
    std::sort(sorted.begin(), sorted.end());
    const size_t n = sorted.size();
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  }
};

absl::StatusOr<Measurement> Measure(const BenchmarkConfig& config, Engine& engine) {
  Measurement result;
  result.fma_peak_flops = MeasureFmaPeakFlops(engine.team());
  const int64_t num_tokens = config.micro_batch * config.seq_len;
  const TensorBuffer tokens(DType::kI32, {num_tokens}), targets(DType::kI32, {num_tokens});
  for (int64_t step = 1; step <= kWarmUpSteps + config.steps; ++step) {
    FillRandomTokens(2 * step, engine.model().config().vocab_size, tokens);
    FillRandomTokens(2 * step + 1, engine.model().config().vocab_size, targets);
    engine.context().set_profile(step > kWarmUpSteps ? &result.profile : nullptr);
    const double start = MonotonicSeconds();
    STRAKE_RETURN_IF_ERROR(
        engine.AccumulateGradients(tokens, targets, 1.0 / num_tokens, /*last=*/true).status());
    STRAKE_RETURN_IF_ERROR(
        engine.Update({.lr = 1e-4, .weight_decay = 0.1, .step = step}, /*clip_norm=*/1).status());
    if (step > kWarmUpSteps) result.step_seconds.push_back(MonotonicSeconds() - start);
  }
  result.fma_peak_flops = std::max(result.fma_peak_flops, MeasureFmaPeakFlops(engine.team()));
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  result.peak_rss_bytes = usage.ru_maxrss * 1024.0;
  return result;
}

nlohmann::ordered_json Report(const BenchmarkConfig& config, const Engine& engine,
                              const Measurement& m) {
  const ModelConfig& model = engine.model().config();
  const double tokens = double(config.micro_batch) * config.seq_len;
  const double seconds = m.MedianSeconds();
  const double flops = TrainingFlopsPerToken(model, config.seq_len) * tokens;
  nlohmann::ordered_json json;
  json["model"] = config.model;
  json["parameters"] = NumParameters(model);
  json["micro_batch"] = config.micro_batch;
  json["seq_len"] = config.seq_len;
  json["steps"] = config.steps;
  json["dtype"] = config.dtype;
  json["threads"] = engine.options().num_threads;
  json["ops"] = config.ops;
  json["seconds_per_step"] = seconds;
  json["tokens_per_second"] = tokens / seconds;
  json["gflops"] = flops / seconds / 1e9;
  json["fma_peak_gflops"] = m.fma_peak_flops / 1e9;
  json["percent_of_fma_peak"] = 100 * flops / seconds / m.fma_peak_flops;
  json["planned_bytes"] = engine.memory_plan().total_bytes();
  json["peak_rss_bytes"] = m.peak_rss_bytes;
  json["op_kinds"] = nlohmann::ordered_json::array();
  for (const auto& [key, entry] : m.profile.entries()) {
    nlohmann::ordered_json op;
    op["op"] = key.first;
    op["pass"] = PassName(key.second);
    op["seconds_per_step"] = entry.seconds / config.steps;
    op["calls_per_step"] = double(entry.calls) / config.steps;
    op["gflops"] = entry.flops / entry.seconds / 1e9;
    json["op_kinds"].push_back(op);
  }
  return json;
}

void PrintTable(const nlohmann::ordered_json& r) {
  std::cout << absl::StrFormat(
      "%s (%s parameters), batch %d x %d, %s, %d threads, %s ops\n", r["model"].get<std::string>(),
      FormatCount(r["parameters"]), r["micro_batch"].get<int64_t>(), r["seq_len"].get<int64_t>(),
      r["dtype"].get<std::string>(), r["threads"].get<int64_t>(), r["ops"].get<std::string>());
  std::cout << absl::StrFormat(
      "%.1f tokens/s, %.1f ms per step (median of %d)\n", r["tokens_per_second"].get<double>(),
      1e3 * r["seconds_per_step"].get<double>(), r["steps"].get<int64_t>());
  std::cout << absl::StrFormat(
      "%.1f GFLOP/s, %.1f %% of the %.1f GFLOP/s of fused multiply-adds measured in this run\n",
      r["gflops"].get<double>(), r["percent_of_fma_peak"].get<double>(),
      r["fma_peak_gflops"].get<double>());
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
  if (config.dtype == "bf16") {
    return absl::UnimplementedError("--dtype=bf16 is not implemented yet; use --dtype=fp32");
  }
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(config.model, /*notices=*/nullptr));
  STRAKE_RETURN_IF_ERROR(CheckSeqLen(model, config.seq_len));
  const int num_threads = config.threads == 0 ? NumUsableCores() : static_cast<int>(config.threads);
  const EngineOptions engine_options = {
      .model = model,
      .seq_len = config.seq_len,
      .micro_batch = config.micro_batch,
      .num_threads = num_threads,
      .op_set = config.ops == "reference" ? OpSet::kReference : OpSet::kAuto};
  const Mesh mesh = Mesh::SingleRank();
  STRAKE_RETURN_IF_ERROR(CheckMemory(engine_options, mesh.sizes(), /*num_local_ranks=*/1));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          Engine::Create(engine_options, mesh));
  InitializeParameters(/*seed=*/1, engine->team(), &engine->parameters());
  STRAKE_ASSIGN_OR_RETURN(const Measurement measurement, Measure(config, *engine));
  const nlohmann::ordered_json report = Report(config, *engine, measurement);
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
