// Machine: what a program computes on, and in which dtype. The flags of every program that runs a
// model.
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

// Members are called as their flags and JSON keys; what they mean stands in AddMachineOptions().
struct MachineConfig {
  std::string device = "cpu";
  std::string dtype = "fp32";
  int64_t threads = 0;
  std::string ops = "auto";
  bool cuda_graph = true;
  std::string activation_recompute = "none";

  Device device_kind() const { return device == "cuda" ? Device::kCuda : Device::kCpu; }
  DType dtype_kind() const { return dtype == "bf16" ? DType::kBf16 : DType::kF32; }
  OpSet op_set() const { return ops == "reference" ? OpSet::kReference : OpSet::kAuto; }
};

ActivationRecompute ActivationRecomputeOf(const std::string& option);

// All but the following.
void AddMachineOptions(MachineConfig* machine, OptionSet* options);
// cuda_graph and activation_recompute, for programs that train.
void AddTrainingOptions(MachineConfig* machine, OptionSet* options);
// The latter, into `activation_recompute`.
void AddActivationRecomputeOption(std::string* activation_recompute, OptionSet* options);

// Sets `threads` where the user left it open. An error, naming flag and value, where this machine
// or this build has not what is asked for: the sentences of core/cuda/cuda_messages.h for GPUs.
absl::Status ResolveMachine(const LayoutConfig& layout, MachineConfig* machine);

// The GPU that this process uses: the first, which ranks that are threads share; with --comm=nccl,
// that of the process's number on its machine.
int CudaDeviceOf(const LayoutConfig& layout);

// Ranks that share the memory of this process's machine, or of its GPU.
int NumRanksInMemory(const MachineConfig& machine, const LayoutConfig& layout);

// "CPU, 4 threads on 2 cores, fp32", "NVIDIA H200, bf16".
std::string MachineText(const MachineConfig& machine, const LayoutConfig& layout);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_MACHINE_H_
