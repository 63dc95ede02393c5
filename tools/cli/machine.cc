#include "tools/cli/machine.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/format_quantity.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/cuda/cuda_runtime.h"
#include "parallel/comm/launch_environment.h"

namespace strake {
namespace {

absl::Status CheckGpus(const LayoutConfig& layout) {
  STRAKE_ASSIGN_OR_RETURN(const int num_gpus, CudaDeviceCount());
  const int num_local_ranks = NumLocalRanks(layout);
  if (layout.comm == "mpi") {
    return absl::InvalidArgumentError(
        "--comm=mpi connects CPUs; with --device=cuda give --comm=nccl, which mpirun starts too");
  }
  // Also checks that there is code for the GPU's architecture.
  if (layout.comm == "threads" || num_local_ranks <= num_gpus) {
    return SetCudaDevice(CudaDeviceOf(layout));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      layout.SizesText(), " put ", num_local_ranks, " ranks on this machine, which has ", num_gpus,
      " ", Plural(num_gpus, "GPU"),
      "; --comm=nccl needs one for each rank: start fewer processes on it, or give --comm=threads, "
      "whose ranks share a GPU"));
}

}  // namespace

void AddMachineOptions(MachineConfig* c, OptionSet* options) {
  options->Add("device", &c->device,
               "device to compute on: cpu, or cuda, which needs a build with --config=cuda",
               {"cpu", "cuda"});
  options->Add(
      "dtype", &c->dtype,
      "dtype of weights and activations; with bf16, sums, gradients and the optimizer's weights "
      "stay in fp32",
      {"fp32", "bf16"});
  options->Add("threads", &c->threads, "threads per rank; 0: all cores, divided over the ranks",
               Range::Between(0, 4096));
  options->ShowDefault("threads", absl::StrCat(NumUsableCores()));
  options->Add("ops", &c->ops,
               "implementations on the CPU: auto, the fastest; reference, the definitions in Eigen",
               {"auto", "reference"});
}

ActivationRecompute ActivationRecomputeOf(const std::string& option) {
  if (option == "full") return ActivationRecompute::kFull;
  return option == "selective" ? ActivationRecompute::kSelective : ActivationRecompute::kNone;
}

void AddActivationRecomputeOption(std::string* activation_recompute, OptionSet* options) {
  options->Add(
      "activation_recompute", activation_recompute,
      "recompute activations in the backward pass instead of keeping them: selective, the outputs "
      "of norms, GELU and SwiGLU; full, all but the input of each half of a layer; saves memory, "
      "costs time, and gives the same bits",
      {"none", "selective", "full"});
}

void AddTrainingOptions(MachineConfig* c, OptionSet* options) {
  AddActivationRecomputeOption(&c->activation_recompute, options);
  options->Add("cuda_graph", &c->cuda_graph,
               "with --device=cuda, record a step once and launch it as a whole; not with "
               "--comm=threads and several ranks");
  options->Add("deterministic", &c->deterministic,
               "give the same bits every time; false, with --device=cuda --dtype=bf16, lets "
               "attention take a backward pass of cuDNN that is faster, needs less memory, and "
               "gives other bits each time");
}

absl::Status ResolveMachine(const LayoutConfig& layout, MachineConfig* c) {
  c->threads = ThreadsPerRank(layout, c->threads);
  if (c->device == "cuda") {
    if (c->ops == "reference") {
      return absl::InvalidArgumentError("--ops=reference runs on the CPU: give --device=cpu");
    }
    return CheckGpus(layout);
  }
  if (layout.comm == "nccl") {
    return absl::InvalidArgumentError(
        "--comm=nccl connects GPUs: give --device=cuda, or --comm=mpi");
  }
  if (c->dtype == "bf16" && c->ops == "reference") {
    return absl::InvalidArgumentError(
        "--ops=reference runs in fp32, not in bf16; give --dtype=fp32, or omit --ops");
  }
  return absl::OkStatus();
}

int CudaDeviceOf(const LayoutConfig& layout) {
  if (layout.comm != "nccl") return 0;
  const std::optional<LaunchEnvironment> launch = DetectLaunchEnvironment();
  return launch.has_value() ? launch->local_rank : 0;
}

int NumRanksInMemory(const MachineConfig& c, const LayoutConfig& layout) {
  return c.device == "cuda" && layout.comm == "nccl" ? 1 : NumLocalRanks(layout);
}

std::string MachineText(const MachineConfig& c, const LayoutConfig& layout) {
  const int num_local_ranks = NumLocalRanks(layout);
  if (c.device == "cuda") {
    const auto gpu = DescribeCudaDevice(CudaDeviceOf(layout));
    const bool shared = layout.comm == "threads" && num_local_ranks > 1;
    return absl::StrCat(gpu.ok() ? gpu->name : "GPU",
                        shared ? absl::StrCat(", shared by ", num_local_ranks, " ranks") : "", ", ",
                        c.dtype, c.deterministic ? "" : ", not deterministic");
  }
  const int64_t num_threads = c.threads * num_local_ranks;
  return absl::StrCat("CPU, ", num_threads, " ", Plural(num_threads, "thread"), " on ",
                      NumUsableCores(), " cores",
                      num_local_ranks < layout.num_ranks() ? " of the first machine" : "", ", ",
                      c.dtype, c.ops == "auto" ? "" : ", reference ops");
}

}  // namespace strake
