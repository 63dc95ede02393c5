#include "tools/checking/check_config.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "models/activation_recompute.h"
#include "models/checkpoint/model_files.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "tools/cli/engine_flags.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/work_screen.h"

namespace strake {
namespace {

constexpr char kAbout[] =
    R"(Checks this build on your model, batch and layout: is it the model, or a bug?

  1. ops     every op, forward and backward, on the shapes that the model gives it, against its
             definition in f64
  2. model   loss, gradient norm and the gradient of every parameter of one step on one rank,
             against the definitions in f64, from the same weights and tokens
  3. layout  with --tp, --pp or --dp, the same step on the layout's ranks, against the same
             definitions; before it, that each rank holds its part of the weights

With --device=cuda all of it runs on a GPU, against the same definitions on the CPU; ranks share it.

An error is the largest difference of a tensor over the tensor's largest element. A tolerance is
what rounding explains: it follows from the dtype's epsilon, the lengths of sums and, for gradients,
from how far they move when every weight is off by one rounding; never more than 1/64, in bf16 1/4.
Lines are in execution order, gradients in that of the backward pass; a verdict ends the output.
The exit code is 0 where all errors are within their tolerances, else 1.

  check --model=gpt2-124m --micro_batch=1
  check --model=gpt2-124m --device=cuda --dtype=bf16
  check --model=llama-tiny --tp=2 --dp=2 --sequence_parallel --report=report.json
  check --init_from=runs/llama-tiny/step-2500 --train_data=text.txt --seq_len=128

No line is wider than the terminal, or than the environment's COLUMNS where that is set.

--report writes one JSON object:
  config               the options
  parameters           of the model
  device, dtype        "cpu" or "cuda", "fp32" or "bf16"
  gpu                  its name; null on the CPU
  ok                   whether all errors are within their tolerances
  first_failure        the first line outside its tolerance, in execution order, or null
  seconds              how long the check took
  ops, model, layout   arrays of lines (layout is null with one rank):
    name, pass, layers   an op, "forward" or "backward", who calls it; or a parameter, "loss", ...
    tensor, shape        what was compared
    error, tolerance, ratio, ok   a number that is not finite is null
    index, rank          where the largest difference is; rank is null on one rank
  model_coverage, layout_coverage   of the gradients:
    elements             of all parameters
    comparisons          each element once for each rank that holds it
    missed               elements that were not compared as often
    different            copies that differ in a bit from another rank's
    dirty                elements of padding that are not 0

)";

void AddCheckOptions(CheckConfig* c, OptionSet* options) {
  const Range size = Range::Between(1, 1e9);
  options->Group("Model");
  options->Add("model", &c->model,
               absl::StrCat("preset (", absl::StrJoin(ModelPresetNames(), ", "),
                            ") or path of a Hugging Face config.json; with --init_from, that "
                            "directory's unless given"));
  options->Add("init_from", &c->init_from,
               "directory in the Hugging Face layout to take the weights from; without it they are "
               "random, from --seed, biases and norms too");
  options->Group("Data");
  options->Add("train_data", &c->train_data,
               "comma-separated paths or globs; *.bin are llm.c token files, others text read as "
               "bytes; without it random tokens, from --seed");
  options->Add("seq_len", &c->seq_len,
               "tokens per sequence; without it 64, or the model's positions if they are fewer",
               size);
  options->Add("micro_batch", &c->micro_batch, "sequences per data-parallel rank and pass", size);
  options->Add("global_batch", &c->global_batch,
               "sequences per step, a multiple of --micro_batch times --dp; 0: that product",
               Range::Between(0, 1e9));
  options->ShowDefault("global_batch", absl::StrCat(c->micro_batch));
  options->Group("Run");
  options->Add("seed", &c->seed, "seed of weights, tokens and the inputs of single ops",
               Range::Between(0, 1e15));
  AddMachineOptions(&c->machine, options);
  AddActivationRecomputeOption(&c->machine.activation_recompute, options);
  AddLayoutOptions(&c->layout, options);
  AddContextCommOption(&c->layout, options);
  AddPipelineOptions(&c->layout, options);
  options->Group("Output");
  options->Add("report", &c->report, "path of a JSON report to write");
  options
      ->Add("brief", &c->brief,
            "print one line for each of ops, model and layout, what fails, and the verdict")
      .FlagOnly();
  AddQuietOption(&c->quiet, options);
  options->Paths({"model", "init_from", "report"});
  options->PathLists({"train_data"});
  options->Suggest("model", ModelPresetNames());
}

// Checks the path before the check runs, which may take minutes.
absl::Status CheckReportPath(const std::string& report) {
  if (report.empty()) return absl::OkStatus();
  const std::filesystem::path path(report);
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("--report=", report, " is a directory"));
  }
  if (std::filesystem::is_directory(folder, error)) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("--report=", report, ": there is no directory ", folder.string()));
}

absl::Status Resolve(const OptionSet& given, const ModelConfig& model, CheckConfig* c) {
  if (c->layout.comm != "threads") {
    return absl::InvalidArgumentError(
        absl::StrCat("--comm=", c->layout.comm,
                     ": the ranks of a check are threads of one process, --comm=threads"));
  }
  if (!given.IsSet("seq_len")) c->seq_len = std::min(c->seq_len, model.max_positions);
  STRAKE_RETURN_IF_ERROR(CheckSeqLenFlag(model, c->seq_len));
  STRAKE_RETURN_IF_ERROR(CheckProcesses(c->layout));
  STRAKE_RETURN_IF_ERROR(CheckLayout(c->layout, model, c->seq_len));
  if (c->global_batch == 0) c->global_batch = c->micro_batch * c->layout.dp;
  STRAKE_RETURN_IF_ERROR(CheckBatch(c->layout, c->micro_batch, c->global_batch));
  STRAKE_RETURN_IF_ERROR(CheckStages(c->layout, model, c->num_micro_batches()));
  if (c->global_batch > (int64_t{1} << 31) / c->seq_len) {
    return absl::InvalidArgumentError(absl::StrCat("--global_batch=", c->global_batch,
                                                   " times --seq_len=", c->seq_len,
                                                   " is more than 2^31 tokens"));
  }
  STRAKE_RETURN_IF_ERROR(ResolveMachine(c->layout, &c->machine));
  return CheckReportPath(c->report);
}

absl::Status CheckIsNoAdapter(const std::string& init_from) {
  if (init_from.empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const bool is_adapter, HoldsAdapter(init_from));
  if (!is_adapter) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--init_from=", init_from,
                   ": is an adapter, and whole models are checked; give its base, or "
                   "merge it into that by //tools:export"));
}

}  // namespace

EngineOptions CheckCommand::RankOptions() const {
  return EngineOptionsOf(model, config.seq_len, config.micro_batch, config.num_micro_batches(),
                         config.machine, config.layout);
}

EngineOptions CheckCommand::WholeOptions() const {
  EngineOptions options = RankOptions();
  options.num_threads *= config.layout.num_ranks();
  options.sequence_parallel = false;
  options.gradients = {};
  return options;
}

EngineOptions CheckCommand::TruthOptions() const {
  EngineOptions options = WholeOptions();
  options.device = Device::kCpu;
  options.dtype = DType::kF64;
  options.op_set = OpSet::kReference;
  options.activation_recompute = ActivationRecompute::kNone;
  return options;
}

absl::StatusOr<CheckCommand> ParseCheckCommand(int argc, const char* const* argv) {
  CheckCommand command;
  CheckConfig* config = &command.config;
  OptionSet options("check");
  AddCheckOptions(config, &options);
  STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
  const std::optional<std::string> text = TextAskedFor(options, kAbout);
  command.show_help = text.has_value();
  if (text.has_value()) {
    command.help = *text;
    return command;
  }
  STRAKE_RETURN_IF_ERROR(CheckIsNoAdapter(config->init_from));
  if (!config->init_from.empty() && !options.IsSet("model")) {
    config->model = config->init_from + "/config.json";
  }
  STRAKE_ASSIGN_OR_RETURN(command.model, FindModelConfig(config->model, &command.notices));
  STRAKE_RETURN_IF_ERROR(Resolve(options, command.model, config));
  return command;
}

nlohmann::ordered_json ToJson(const CheckConfig& config) {
  CheckConfig copy = config;
  OptionSet options("check");
  AddCheckOptions(&copy, &options);
  return options.ToJson();
}

}  // namespace strake
