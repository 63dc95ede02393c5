// Layout: the number of a run's ranks, their axes, and how they are connected. Every program that
// runs a model has these flags.
#ifndef STRAKE_TOOLS_CLI_LAYOUT_H_
#define STRAKE_TOOLS_CLI_LAYOUT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/model_config.h"
#include "parallel/comm/communicator.h"
#include "parallel/context/context_parallel.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/mesh/mesh.h"
#include "tools/cli/options.h"
#include "train/engine/engine_options.h"

namespace strake {

// Members are named like their flags and JSON keys; AddLayoutOptions() documents them.
struct LayoutConfig {
  int64_t tp = 1;
  int64_t cp = 1;
  int64_t pp = 1;
  int64_t dp = 1;
  bool sequence_parallel = false;
  int64_t zero = 0;
  std::string grad_reduce_dtype = "fp32";
  std::string cp_comm = "ring";
  std::string comm = "threads";
  bool comm_check = false;
  double comm_timeout = 600;
  std::string pp_schedule = "1f1b";
  int64_t pp_chunks = 1;
  int64_t pp_in_flight = 0;
  std::string pp_layers = "";

  MeshVector sizes() const {
    return {.dp = static_cast<int>(dp),
            .pp = static_cast<int>(pp),
            .cp = static_cast<int>(cp),
            .tp = static_cast<int>(tp)};
  }
  int num_ranks() const { return static_cast<int>(dp * pp * cp * tp); }
  // "--tp=2 times --dp=4", with --cp and --pp between them where they are not 1.
  std::string SizesText() const;
  CommunicatorOptions communicator_options() const;
};

// Returns what --cp_comm says.
ContextComm ContextCommOf(const LayoutConfig& layout);

void AddLayoutOptions(LayoutConfig* layout, OptionSet* options);

// Adds --pp_layers, the layers of the stages of --pp.
void AddStageLayersOption(LayoutConfig* layout, OptionSet* options);

// Adds how the stages of --pp share a training step, --pp_layers too, for programs that compute
// one.
void AddPipelineOptions(LayoutConfig* layout, OptionSet* options);

// Adds --cp_comm, for programs that compute a training step.
void AddContextCommOption(LayoutConfig* layout, OptionSet* options);

// Adds --grad_reduce_dtype, for programs that train.
void AddGradReduceOption(LayoutConfig* layout, OptionSet* options);

// Returns what the flags say of gradients: ZeRO's stage, and how ranks sum them.
GradientReducerOptions GradientOptionsOf(const LayoutConfig& layout);

// What the flags say of a pipeline, whose steps have `num_micro_batches` per data-parallel rank.
// InvalidArgument, naming --pp_layers, where that is no list of numbers.
absl::StatusOr<PipelineOptions> PipelineOptionsOf(const LayoutConfig& layout,
                                                  int64_t num_micro_batches);

// InvalidArgument, with the numbers and what fits, where the model's layers or a step's
// micro-batches do not fit the stages and their schedule.
absl::Status CheckStages(const LayoutConfig& layout, const ModelConfig& model,
                         int64_t num_micro_batches);

// InvalidArgument, with both numbers and the sizes that fit, where the model cannot be sharded over
// --tp.
absl::Status CheckTensorParallelSize(const LayoutConfig& layout, const ModelConfig& model);

// InvalidArgument where the model has fewer positions than --seq_len.
absl::Status CheckSeqLenFlag(const ModelConfig& model, int64_t seq_len);

// CheckTensorParallelSize(), and the same error where context or sequence parallelism cannot shard
// sequences of `seq_len` tokens.
absl::Status CheckLayout(const LayoutConfig& layout, const ModelConfig& model, int64_t seq_len);

// InvalidArgument, likewise, where a step's batch cannot be divided evenly over the ranks.
absl::Status CheckBatch(const LayoutConfig& layout, int64_t micro_batch, int64_t global_batch);

// InvalidArgument where the launcher (mpirun, srun) started another number of processes than the
// layout has ranks, where the layout does not use the launcher, and where one process would hold
// too many ranks. Call it before ranks are started.
absl::Status CheckProcesses(const LayoutConfig& layout);

// InvalidArgument, with both numbers, where MPI connects another number of processes than the
// layout has ranks. Finds what no launcher's variable shows.
absl::Status CheckNumProcesses(const LayoutConfig& layout, int num_processes);

// Empty, or a warning that Open MPI's mpirun, which connects several machines here, would not end
// soon after one of them is lost: it notices a silent machine by keepalive, and, once ranks have
// given up and it has told so to all machines, only by TCP's own patience.
std::string LostMachineWarning(const LayoutConfig& layout);

// The number of ranks on this machine: all of them as threads; under MPI the launcher's number, or
// one.
int NumLocalRanks(const LayoutConfig& layout);

// Resolves --threads=0: this machine's cores divided by its ranks, at least one each.
int ThreadsPerRank(const LayoutConfig& layout, int64_t threads);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_LAYOUT_H_
