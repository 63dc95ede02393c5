#include "tools/cli/layout.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "models/transformer.h"
#include "parallel/comm/launch_environment.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"
#include "parallel/pipeline/schedule.h"
#include "train/engine/stage_models.h"

namespace strake {
namespace {

constexpr int kMaxRanks = 4096;        // along an axis
constexpr int kMaxThreadRanks = 1024;  // in one process

// The divisors of n that can be sizes of an axis, ascending.
std::vector<int64_t> Divisors(int64_t n) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= std::min<int64_t>(n, kMaxRanks); ++d) {
    if (n % d == 0) divisors.push_back(d);
  }
  return divisors;
}

std::vector<int64_t> FittingTensorParallelSizes(const ModelConfig& model) {
  std::vector<int64_t> fitting;
  for (const int64_t size : Divisors(model.num_heads)) {
    if (CheckTensorParallel(model, static_cast<int>(size)).ok()) fitting.push_back(size);
  }
  return fitting;
}

// "--tp=1 --dp=4, --tp=2 --dp=2, --tp=4 --dp=1", with --cp and --pp in each where they were given:
// the same if they divide the ranks, else 1.
std::string LayoutsOf(int64_t num_ranks, const LayoutConfig& c) {
  const bool fits = num_ranks % (c.cp * c.pp) == 0;
  const int64_t cp = fits ? c.cp : 1, pp = fits ? c.pp : 1;
  const std::string between = absl::StrCat(c.cp > 1 ? absl::StrCat(" --cp=", cp) : "",
                                           c.pp > 1 ? absl::StrCat(" --pp=", pp) : "");
  std::vector<std::string> layouts;
  for (const int64_t tp : Divisors(num_ranks / (cp * pp))) {
    layouts.push_back(absl::StrCat("--tp=", tp, between, " --dp=", num_ranks / (cp * pp) / tp));
  }
  return absl::StrJoin(layouts, ", ");
}

// The flags that shape a pipeline, where they are not the defaults.
std::string PipelineText(const LayoutConfig& c) {
  const LayoutConfig defaults;
  std::string text = absl::StrCat("--pp=", c.pp);
  const auto add = [&](const char* flag, const auto& value, const auto& otherwise) {
    if (value != otherwise) absl::StrAppend(&text, " --", flag, "=", value);
  };
  add("pp_schedule", c.pp_schedule, defaults.pp_schedule);
  add("pp_chunks", c.pp_chunks, defaults.pp_chunks);
  add("pp_in_flight", c.pp_in_flight, defaults.pp_in_flight);
  add("pp_layers", c.pp_layers, defaults.pp_layers);
  return text;
}

// A variable in which mpirun of Open MPI 4 passes on its options and its findings. Version 5 has
// none of these.
int64_t MpirunSetting(const char* name, int64_t otherwise) {
  const char* const text = std::getenv(absl::StrCat("OMPI_MCA_", name).c_str());
  int64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

}  // namespace

std::string LayoutConfig::SizesText() const {
  return absl::StrCat("--tp=", tp, cp > 1 ? absl::StrCat(" times --cp=", cp) : "",
                      pp > 1 ? absl::StrCat(" times --pp=", pp) : "", " times --dp=", dp);
}

CommunicatorOptions LayoutConfig::communicator_options() const {
  return {.timeout = std::chrono::milliseconds(static_cast<int64_t>(comm_timeout * 1000)),
          .check = comm_check};
}

void AddLayoutOptions(LayoutConfig* c, OptionSet* options) {
  const Range ranks = Range::Between(1, kMaxRanks);
  options->Group("Layout");
  options->Add("tp", &c->tp, "tensor-parallel ranks: each holds a part of every layer", ranks);
  options->Add("cp", &c->cp,
               "context-parallel ranks: each holds a part of every sequence, and attends to the "
               "others'",
               ranks);
  options->Add("pp", &c->pp, "stages of a pipeline: each has some of the layers", ranks);
  options->Add("dp", &c->dp, "data-parallel ranks: each trains on its own micro-batches", ranks);
  options->Add("sequence_parallel", &c->sequence_parallel,
               "also shard the tokens between layers over the tensor-parallel ranks");
  options->Add("zero", &c->zero,
               "shard over the data- and context-parallel ranks: 1, the optimizer's state; 2, also "
               "the gradients",
               Range::Between(0, 2));
  options->Add(
      "comm", &c->comm,
      "how ranks communicate: threads, as threads of one process; mpi, as processes that mpirun or "
      "srun starts; nccl, as one process per GPU, which mpirun, srun or torchrun starts",
      {"threads", "mpi", "nccl"});
  options->Add(
      "comm_check", &c->comm_check,
      "check that ranks make the same calls, and that the weights they share are equal after "
      "every step");
  options->Add("comm_timeout", &c->comm_timeout,
               "seconds that a rank waits for another, which may be writing a file, before the run "
               "fails",
               Range{0.001, 1e6});
}

void AddStageLayersOption(LayoutConfig* c, OptionSet* options) {
  options->Add("pp_layers", &c->pp_layers,
               "comma-separated numbers of layers of the stages, as 9,3, or of all chunks in the "
               "model's order; without it spread by their floating-point operations");
}

void AddPipelineOptions(LayoutConfig* c, OptionSet* options) {
  options->Add(
      "pp_schedule", &c->pp_schedule,
      "the order in which stages do the passes of micro-batches, which moves no bit of the "
      "result: gpipe, 1f1b, interleaved, which takes several --pp_chunks, or zero_bubble; "
      "//tools:schedule draws them",
      PipelineKindNames());
  options->Add("pp_chunks", &c->pp_chunks,
               "parts of the model per stage: more make passes shorter, and so is what stages wait "
               "for, and messages more",
               Range::Between(1, kMaxRanks));
  options->Add("pp_in_flight", &c->pp_in_flight,
               "passes through a chunk whose activations a stage of zero_bubble may hold: more "
               "memory, less waiting; 0: as many as the first stage of 1f1b or interleaved",
               Range::Between(0, 1e6));
  AddStageLayersOption(c, options);
}

void AddContextCommOption(LayoutConfig* c, OptionSet* options) {
  options->Add("cp_comm", &c->cp_comm,
               "how keys and values reach other context-parallel ranks: ring, chunk by chunk while "
               "those that have come are attended to; all_gather, all at once, in one rank's order "
               "of sums and more memory",
               {"ring", "all_gather"});
}

void AddGradReduceOption(LayoutConfig* c, OptionSet* options) {
  options->Add(
      "grad_reduce_dtype", &c->grad_reduce_dtype,
      "dtype of gradients while they are summed over the data-parallel ranks: bf16 halves the "
      "bytes, and rounds",
      {"fp32", "bf16"});
}

ContextComm ContextCommOf(const LayoutConfig& layout) {
  return layout.cp_comm == "ring" ? ContextComm::kRing : ContextComm::kAllGather;
}

GradientReducerOptions GradientOptionsOf(const LayoutConfig& layout) {
  return {.zero = static_cast<int>(layout.zero),
          .reduce_in_bf16 = layout.grad_reduce_dtype == "bf16"};
}

absl::StatusOr<PipelineOptions> PipelineOptionsOf(const LayoutConfig& layout,
                                                  int64_t num_micro_batches) {
  PipelineOptions options = {.kind = PipelineKindOf(layout.pp_schedule),
                             .chunks = static_cast<int>(layout.pp_chunks),
                             .in_flight = static_cast<int>(layout.pp_in_flight),
                             .micro_batches = num_micro_batches};
  if (layout.pp_layers.empty()) return options;
  for (const absl::string_view text : absl::StrSplit(layout.pp_layers, ',')) {
    if (!absl::SimpleAtoi(text, &options.layers.emplace_back())) {
      return absl::InvalidArgumentError(
          absl::StrCat("--pp_layers=", layout.pp_layers, ": \"", text,
                       "\" is no number of layers; give one for each stage, as 9,3"));
    }
  }
  return options;
}

absl::Status CheckStages(const LayoutConfig& layout, const ModelConfig& model,
                         int64_t num_micro_batches) {
  STRAKE_ASSIGN_OR_RETURN(PipelineOptions pipeline, PipelineOptionsOf(layout, num_micro_batches));
  if (layout.pp == 1 && !layout.pp_layers.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--pp_layers=", layout.pp_layers,
                     " are the layers of a pipeline's stages, and --pp=1 is one stage"));
  }
  const EngineOptions options = {.model = model, .pipeline = std::move(pipeline)};
  return NameError(PipelineText(layout), CheckPipeline(options, static_cast<int>(layout.pp)));
}

absl::Status CheckTensorParallelSize(const LayoutConfig& layout, const ModelConfig& model) {
  const absl::Status fits = CheckTensorParallel(model, static_cast<int>(layout.tp));
  if (fits.ok()) return fits;
  return absl::InvalidArgumentError(absl::StrCat(
      "--tp=", layout.tp, ": ", absl::StripPrefix(fits.message(), "[shard] "),
      "; for this model --tp may be ", absl::StrJoin(FittingTensorParallelSizes(model), ", ")));
}

absl::Status CheckSeqLenFlag(const ModelConfig& model, int64_t seq_len) {
  const absl::Status fits = CheckSeqLen(model, seq_len);
  if (fits.ok()) return fits;
  return absl::InvalidArgumentError(
      absl::StrCat("--seq_len=", absl::StripPrefix(fits.message(), "the sequence length ")));
}

absl::Status CheckLayout(const LayoutConfig& layout, const ModelConfig& model, int64_t seq_len) {
  STRAKE_RETURN_IF_ERROR(CheckTensorParallelSize(layout, model));
  STRAKE_RETURN_IF_ERROR(NameError(absl::StrCat("--seq_len=", seq_len, " --cp=", layout.cp),
                                   CheckSequence(seq_len, static_cast<int>(layout.cp))));
  if (layout.sequence_parallel && seq_len / layout.cp % layout.tp != 0) {
    std::vector<int64_t> fitting = FittingTensorParallelSizes(model);
    fitting.erase(std::remove_if(fitting.begin(), fitting.end(),
                                 [&](int64_t tp) { return seq_len / layout.cp % tp != 0; }),
                  fitting.end());
    return absl::InvalidArgumentError(absl::StrCat(
        "--sequence_parallel: --seq_len=", seq_len,
        layout.cp > 1 ? absl::StrCat(" over --cp=", layout.cp) : "", " is not a multiple of --tp=",
        layout.tp, "; with this length --tp may be ", absl::StrJoin(fitting, ", ")));
  }
  return absl::OkStatus();
}

absl::Status CheckBatch(const LayoutConfig& layout, int64_t micro_batch, int64_t global_batch) {
  const int64_t pass = micro_batch * layout.dp;
  if (global_batch % pass == 0) return absl::OkStatus();
  std::vector<std::string> fitting;
  if (global_batch % layout.dp == 0) {
    fitting.push_back(absl::StrCat("--micro_batch may be ",
                                   absl::StrJoin(Divisors(global_batch / layout.dp), ", ")));
  }
  if (global_batch % micro_batch == 0) {
    fitting.push_back(
        absl::StrCat("--dp may be ", absl::StrJoin(Divisors(global_batch / micro_batch), ", ")));
  }
  if (fitting.empty()) {
    fitting.push_back(absl::StrCat("--global_batch may be ", (global_batch / pass + 1) * pass));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--global_batch=", global_batch, " is not a multiple of --micro_batch=", micro_batch,
      layout.dp > 1 ? absl::StrCat(" times --dp=", layout.dp, ", ", pass) : "", "; ",
      absl::StrJoin(fitting, ", or ")));
}

absl::Status CheckProcesses(const LayoutConfig& layout) {
  const std::optional<LaunchEnvironment> launch = DetectLaunchEnvironment();
  if (layout.comm == "mpi") {
    return launch.has_value() && launch->mpi && launch->size > 0
               ? CheckNumProcesses(layout, launch->size)
               : absl::OkStatus();
  }
  if (layout.comm == "nccl") {
    // If mpirun does not set the number of processes, MPI tells it.
    if (launch.has_value() && launch->mpi) {
      return launch->size > 0 ? CheckNumProcesses(layout, launch->size) : absl::OkStatus();
    }
    STRAKE_ASSIGN_OR_RETURN(const NcclRendezvous rendezvous, NcclRendezvousFromEnvironment());
    return CheckNumProcesses(layout, rendezvous.size);
  }
  if (launch.has_value() && (launch->mpi || launch->size > 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("this process was started as one of several (", launch->variable,
                     " is set), and --comm=", layout.comm, " is one process; give --comm=mpi",
                     launch->mpi ? "" : " (with mpirun) or --comm=nccl",
                     ", or start it without mpirun, srun or torchrun"));
  }
  if (layout.num_ranks() <= kMaxThreadRanks) return absl::OkStatus();
  const int64_t with_one_dp = layout.tp * layout.cp * layout.pp;
  std::vector<std::string> others = {"--tp"};
  if (layout.cp > 1) others.emplace_back("--cp");
  if (layout.pp > 1) others.emplace_back("--pp");
  return absl::InvalidArgumentError(
      absl::StrCat(layout.SizesText(), " are ", layout.num_ranks(),
                   " ranks, and --comm=threads takes at most ", kMaxThreadRanks, "; ",
                   with_one_dp > kMaxThreadRanks
                       ? absl::StrCat("give a smaller ", absl::StrJoin(others, " or "))
                       : absl::StrCat(others.size() > 1 ? "with these " : "with this ",
                                      absl::StrJoin(others, " and "), ", --dp may be up to ",
                                      kMaxThreadRanks / with_one_dp),
                   ", or give --comm=mpi"));
}

absl::Status CheckNumProcesses(const LayoutConfig& layout, int num_processes) {
  if (num_processes == layout.num_ranks()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(layout.SizesText(), " are ", layout.num_ranks(), " ranks, but ", num_processes,
                   num_processes == 1 ? " process was" : " processes were",
                   " started; start as many as ranks (mpirun -np ", layout.num_ranks(),
                   "), or give ", LayoutsOf(num_processes, layout)));
}

std::string LostMachineWarning(const LayoutConfig& layout) {
  if (MpirunSetting("orte_num_nodes", 1) < 2) return "";
  const int64_t idle = MpirunSetting("oob_tcp_keepalive_time", 0);
  if (idle <= 0) {
    return "if a machine is lost, mpirun ends this run only after minutes; give it --mca "
           "oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 5 --mca "
           "oob_tcp_keepalive_probes 4";
  }
  // Open MPI's defaults.
  const int64_t seconds = idle + MpirunSetting("oob_tcp_keepalive_intvl", 20) *
                                     MpirunSetting("oob_tcp_keepalive_probes", 9);
  if (seconds < layout.comm_timeout) return "";
  return absl::StrCat(
      "if a machine is lost, mpirun ends this run only after minutes: "
      "--comm_timeout=",
      layout.comm_timeout, " is not more than the ", seconds,
      " seconds of its oob_tcp_keepalive_*");
}

int NumLocalRanks(const LayoutConfig& layout) {
  if (layout.comm == "threads") return layout.num_ranks();
  const std::optional<LaunchEnvironment> launch = DetectLaunchEnvironment();
  return launch.has_value() ? std::max(1, launch->local_size) : 1;
}

int ThreadsPerRank(const LayoutConfig& layout, int64_t threads) {
  if (threads > 0) return static_cast<int>(threads);
  return std::max(1, NumUsableCores() / NumLocalRanks(layout));
}

}  // namespace strake
