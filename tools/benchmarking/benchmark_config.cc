#include "tools/benchmarking/benchmark_config.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "tools/cli/engine_flags.h"
#include "tools/cli/work_screen.h"

namespace strake {

namespace {

// Ops by themselves need little memory, so that nothing else is checked.
absl::Status CheckMeasure(const BenchmarkConfig& c) {
  if (c.on_cuda() && !c.json) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--measure=", c.measure, " is for --device=cuda, and prints no JSON object"));
}

}  // namespace

EngineOptions BenchmarkConfig::RankOptions(const ModelConfig& model_config) const {
  return EngineOptionsOf(model_config, seq_len, micro_batch, num_micro_batches(), machine, layout);
}

void AddBenchmarkOptions(BenchmarkConfig* c, OptionSet* options) {
  const Range size = Range::Between(1, 1e9);
  options->Add("model", &c->model, "preset, or path of a Hugging Face config.json");
  options->Add("micro_batch", &c->micro_batch, "sequences per data-parallel rank and pass", size);
  options->Add("global_batch", &c->global_batch,
               "sequences per step, a multiple of --micro_batch times --dp; 0: that product",
               Range::Between(0, 1e9));
  options->ShowDefault("global_batch", absl::StrCat(c->micro_batch));
  options->Add("seq_len", &c->seq_len, "tokens per sequence", size);
  options->Add("steps", &c->steps, "steps to time, after two to warm up", size);
  options->Add("measure", &c->measure,
               "what is timed: whole steps; or, on a GPU, every different op of a step by itself, "
               "or products or attention alone",
               {"step", "ops", "products", "attention"});
  AddMachineOptions(&c->machine, options);
  AddTrainingOptions(&c->machine, options);
  options->Add("against_one_rank", &c->against_one_rank,
               "also time one rank with all the layout's threads and its batch, in alternation");
  options->Add("tune", &c->tune,
               "only time cuBLASLt's algorithms for the step's products, and write the fastest to "
               "this file: docs/cuda.md");
  options->Add("json", &c->json, "print one JSON object instead of a table");
  AddQuietOption(&c->quiet, options);
  AddLayoutOptions(&c->layout, options);
  AddContextCommOption(&c->layout, options);
  AddPipelineOptions(&c->layout, options);
  AddGradReduceOption(&c->layout, options);
  options->Paths({"model", "tune"});
}

absl::Status ResolveBenchmark(const ModelConfig& model, BenchmarkConfig* c) {
  STRAKE_RETURN_IF_ERROR(CheckSeqLenFlag(model, c->seq_len));
  STRAKE_RETURN_IF_ERROR(CheckProcesses(c->layout));
  STRAKE_RETURN_IF_ERROR(CheckLayout(c->layout, model, c->seq_len));
  if (c->global_batch == 0) c->global_batch = c->micro_batch * c->layout.dp;
  STRAKE_RETURN_IF_ERROR(CheckBatch(c->layout, c->micro_batch, c->global_batch));
  STRAKE_RETURN_IF_ERROR(CheckStages(c->layout, model, c->num_micro_batches()));
  STRAKE_RETURN_IF_ERROR(ResolveMachine(c->layout, &c->machine));
  if (c->measure != "step") return CheckMeasure(*c);
  if (c->against_one_rank && (c->layout.comm != "threads" || c->on_cuda())) {
    // Waiting processes would take the cores from the one rank.
    return absl::InvalidArgumentError("--against_one_rank is for --comm=threads on CPUs");
  }
  if (!c->tune.empty() && (c->layout.comm != "threads" || !c->on_cuda())) {
    return absl::InvalidArgumentError("--tune is for --device=cuda and --comm=threads");
  }
  return CheckMemoryOfFlags(c->RankOptions(model), c->machine, c->layout);
}

}  // namespace strake
