// Machine: the device that a program computes on, and the dtype. Every program that runs a model
// has these flags.
#ifndef STRAKE_TOOLS_CLI_MACHINE_H_
#define STRAKE_TOOLS_CLI_MACHINE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "tools/cli/layout.h"
#include "tools/cli/options.h"

namespace strake {

// Members are named like their flags and JSON keys; AddMachineOptions() documents them.
struct MachineConfig {
  std::string device = "cpu";
  std::string dtype = "fp32";
  int64_t threads = 0;
  std::string ops = "auto";
  bool cuda_graph = true;
  bool deterministic = true;
  std::string activation_recompute = "none";

  Device device_kind() const { return device == "cuda" ? Device::kCuda : Device::kCpu; }
  DType dtype_kind() const { return dtype == "bf16" ? DType::kBf16 : DType::kF32; }
  OpSet op_set() const { return ops == "reference" ? OpSet::kReference : OpSet::kAuto; }
};

ActivationRecompute ActivationRecomputeOf(const std::string& option);

// Adds all options except those of AddTrainingOptions().
void AddMachineOptions(MachineConfig* machine, OptionSet* options);
// Adds cuda_graph, deterministic and activation_recompute, for programs that train.
void AddTrainingOptions(MachineConfig* machine, OptionSet* options);
// Adds activation_recompute alone, into the given variable.
void AddActivationRecomputeOption(std::string* activation_recompute, OptionSet* options);

// Sets `threads` where the user left it open. Returns an error, naming flag and value, where this
// machine or this build lacks what the flags require: for GPUs one of core/cuda/cuda_messages.h.
absl::Status ResolveMachine(const LayoutConfig& layout, MachineConfig* machine);

// The GPU that this process uses: the first, which ranks that are threads share; with --comm=nccl
// the one with the process's number on its machine.
int CudaDeviceOf(const LayoutConfig& layout);

// The number of ranks that share the memory of this process's machine, or of its GPU.
int NumRanksInMemory(const MachineConfig& machine, const LayoutConfig& layout);

// "CPU, 4 threads on 2 cores, fp32", "NVIDIA H200, bf16", "NVIDIA H200, bf16, not deterministic".
std::string MachineText(const MachineConfig& machine, const LayoutConfig& layout);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_MACHINE_H_
