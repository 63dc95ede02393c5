#include "train/plan/memory_plan.h"

#include <algorithm>
#include <deque>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/control_group.h"
#include "core/base/dtype.h"
#include "core/base/format_quantity.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/memory/parameter_arena.h"
#include "models/transformer.h"
#include "parallel/comm/nccl/nccl_memory.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/tensor_parallel.h"
#include "train/engine/stage_models.h"

namespace strake {
namespace {

// What the whole system has left.
std::optional<size_t> SystemBytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  for (size_t kilobytes; file >> key;) {
    if (key == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
  }
  return std::nullopt;
}

absl::Status NotEnough(absl::string_view what, const AvailableMemory& available) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the run needs ", what, " but ", FormatBytes(available.bytes), " are free"));
}

// The ranks that share the memory of a machine, or of its GPU.
struct MachineMemory {
  double bytes = 0;
  int stage = 0;           // the one of theirs whose ranks need the most
  int ranks_of_stage = 0;  // here
};

// Returns them in the order of ranks: `num_ranks` that follow each other share a machine. `stages`
// are the bytes of a rank of each.
std::vector<MachineMemory> MachinesOf(const MeshVector& sizes, int num_ranks,
                                      absl::Span<const double> stages) {
  std::vector<MachineMemory> machines;
  for (int first = 0; first < NumRanks(sizes); first += num_ranks) {
    MachineMemory& machine = machines.emplace_back();
    machine.stage = CoordinatesOf(sizes, first).pp;
    for (int rank = first; rank < std::min(first + num_ranks, NumRanks(sizes)); ++rank) {
      const int stage = CoordinatesOf(sizes, rank).pp;
      machine.bytes += stages[stage];
      if (stages[stage] > stages[machine.stage]) {
        machine.stage = stage;
        machine.ranks_of_stage = 0;
      }
      machine.ranks_of_stage += stage == machine.stage ? 1 : 0;
    }
  }
  return machines;
}

const MachineMemory& Dearest(const std::vector<MachineMemory>& machines) {
  return *std::max_element(
      machines.begin(), machines.end(),
      [](const MachineMemory& a, const MachineMemory& b) { return a.bytes < b.bytes; });
}

// What NCCL holds on a rank of a stage, which it connects with the other ranks.
size_t NcclBytes(const EngineOptions& options, const MeshVector& sizes, int stage) {
  size_t bytes = 0;
  for (const MeshAxis axis : kMeshAxes) bytes += NcclBufferBytes(sizes[axis]);
  if (sizes.cp > 1) bytes += NcclBufferBytes(GradientGroupSize(sizes));
  // Ranks that hold the same key/value heads have a group of their own.
  const int holders = static_cast<int>(
      AttentionHeadShard(options.model.num_heads, options.model.num_kv_heads, sizes.tp, /*rank=*/0)
          ->key_value.holders.size());
  if (holders < sizes.tp) bytes += NcclBufferBytes(holders);
  if (sizes.pp == 1) return bytes;
  // Each direction of each link to a neighbour is a group (parallel/pipeline/stage_links.h).
  const bool is_circle = options.pipeline.chunks > 1;
  const int neighbours = (is_circle || stage > 0) + (is_circle || stage + 1 < sizes.pp);
  return bytes + 2 * neighbours * NcclBufferBytes(2);
}

// The plan of each stage is that of its first rank.
struct RanksMemory {
  std::vector<MemoryPlan> stages;
  std::vector<MachineMemory> machines;
  size_t checkpoint_bytes = 0;  // of the first machine's, while one is gathered there
};

RanksMemory PlanRanks(const EngineOptions& options, const MeshVector& sizes, int num_ranks) {
  RanksMemory memory;
  std::vector<double> bytes;
  const EngineOptions cut = WithLayersOfParts(options, sizes.pp);
  for (int stage = 0; stage < sizes.pp; ++stage) {
    MemoryPlan& plan =
        memory.stages.emplace_back(PlanMemory(cut, sizes, FirstRankOfStage(sizes, stage)));
    if (options.device == Device::kCuda && num_ranks < NumRanks(sizes)) {
      plan.library_bytes += NcclBytes(options, sizes, stage);
    }
    bytes.push_back(static_cast<double>(plan.total_bytes()));
  }
  memory.machines = MachinesOf(sizes, num_ranks, bytes);
  memory.checkpoint_bytes = CheckpointBytes(options, sizes);
  memory.machines.front().bytes += static_cast<double>(memory.checkpoint_bytes);
  return memory;
}

// The lower bound of what the dearest machine needs.
double LeastBytesOfAMachine(const EngineOptions& options, const MeshVector& sizes, int num_ranks) {
  const EngineOptions cut = WithLayersOfParts(options, sizes.pp);
  std::vector<double> bytes;
  for (int stage = 0; stage < sizes.pp; ++stage) {
    bytes.push_back(LeastMemoryBytes(cut, sizes, stage));
  }
  return Dearest(MachinesOf(sizes, num_ranks, bytes)).bytes;
}

// The parameters that a tensor-parallel rank trains, without memory.
class TrainedParameters {
 public:
  explicit TrainedParameters(const ModelConfig& model, const TensorParallel& tp = TensorParallel())
      : lora_(model.lora.enabled()),
        transformer_(model, /*max_seq_len=*/1, &weights_, tp, LogitsChunk(),
                     ActivationRecompute::kNone, &adapters_) {}

  const std::deque<ParameterRecord>& records() const {
    return lora_ ? adapters_.records() : weights_.records();
  }

 private:
  const bool lora_;
  ParameterArena weights_, adapters_;
  const Transformer transformer_;
};

// " on each of 4 ranks".
std::string OnEachOf(int num_ranks) {
  return num_ranks == 1 ? "" : absl::StrCat(" on each of ", num_ranks, " ranks");
}

// "the most in stage 1 of 2: weights 2 GiB, gradients ...".
std::string PlanText(const RanksMemory& memory, const MachineMemory& machine) {
  const MemoryPlan& plan = memory.stages[machine.stage];
  const size_t num_stages = memory.stages.size();
  return absl::StrCat(
      num_stages > 1 ? absl::StrCat("the most in stage ", machine.stage, " of ", num_stages, ": ")
                     : "",
      "weights ", FormatBytes(plan.parameter_bytes), ", gradients ",
      FormatBytes(plan.gradient_bytes), ", optimizer ", FormatBytes(plan.optimizer_bytes),
      ", activations ", FormatBytes(plan.activation_bytes),
      plan.library_bytes > 0 ? ", libraries " + FormatBytes(plan.library_bytes) : "",
      OnEachOf(machine.ranks_of_stage));
}

}  // namespace

std::optional<size_t> AvailableMemoryBytes() {
  const std::optional<size_t> system = SystemBytes();
  const std::optional<size_t> group = ReadControlGroupLimits().free_memory_bytes;
  if (!system.has_value() || !group.has_value()) return system.has_value() ? system : group;
  return std::min(*system, *group);
}

absl::StatusOr<AvailableMemory> FindAvailableMemory(Device device, int cuda_device) {
  if (device == Device::kCpu) {
    // The default is the address space of x86-64, for a system that does not report its memory.
    return AvailableMemory{AvailableMemoryBytes().value_or(size_t{1} << 47), " of memory"};
  }
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(cuda_device));
  return AvailableMemory{gpu.free_bytes,
                         absl::StrCat(" on GPU ", cuda_device, " (", gpu.name, ")")};
}

double LeastMemoryBytes(const EngineOptions& options, const MeshVector& sizes, int stage) {
  // Workspaces of CUDA kernels grow with the number of a rank's tokens up to 2112, or in steps of
  // 2048. Beyond 4096, and by multiples of it, memory is linear.
  constexpr int64_t kFewTokens = 4096, kFewPositions = 64;
  // Ranks divide sequences of a multiple of this.
  const int64_t multiple = int64_t{sizes.tp} * (sizes.cp == 1 ? 1 : 2 * sizes.cp);
  int64_t positions = 1;  // of a sequence and part
  while (positions < kFewPositions && 2 * positions * multiple <= options.seq_len) positions *= 2;
  const int64_t few_sequences = kFewTokens / positions;
  EngineOptions few = WithLayersOfParts(options, sizes.pp);
  few.seq_len = std::min<int64_t>(options.seq_len, positions * multiple);
  few.logits_chunk = {.max_bytes = 0, .min_rows = kFewPositions};
  const auto plan = [&](int64_t num_sequences) {
    few.micro_batch = num_sequences;
    return PlanMemory(few, sizes, FirstRankOfStage(sizes, stage));
  };
  const double num_sequences =
      double(options.seq_len) * double(options.micro_batch) / double(few.seq_len);
  if (num_sequences <= 2.0 * few_sequences) {
    const MemoryPlan one = plan(1);
    return double(one.parameter_bytes + one.gradient_bytes + one.optimizer_bytes);
  }
  const double bytes = plan(few_sequences).total_bytes();
  const double more = double(plan(2 * few_sequences).total_bytes()) - bytes;
  return bytes + (num_sequences - few_sequences) / few_sequences * more;
}

size_t CheckpointBytes(const EngineOptions& options, const MeshVector& sizes) {
  const bool sharded_state = options.gradients.zero > 0 && GradientGroupSize(sizes) > 1;
  if (sizes.tp == 1 && sizes.pp == 1 && !sharded_state) return 0;
  const TrainedParameters whole(options.model);
  const TrainedParameters part(options.model, TensorParallel::Planned(0, sizes.tp));
  int64_t most = 0;
  for (size_t i = 0; i < whole.records().size(); ++i) {
    const int64_t part_elements = sizes.tp == 1 ? 0 : part.records()[i].num_elements();
    most = std::max(most, whole.records()[i].num_elements() + part_elements);
  }
  // Moments and masters of bf16 weights are f32.
  return most * DTypeSize(AccumulationDType(options.dtype));
}

size_t SnapshotBytes(const EngineOptions& options) {
  const TrainedParameters whole(options.model);
  // Moments, and the masters of bf16 weights.
  const size_t num_arrays = options.dtype == DType::kBf16 ? 3 : 2;
  const size_t element_bytes =
      DTypeSize(options.dtype) + num_arrays * DTypeSize(AccumulationDType(options.dtype));
  size_t num_elements = 0;
  for (const ParameterRecord& record : whole.records()) num_elements += record.num_elements();
  return num_elements * element_bytes;
}

bool HasMemoryForSnapshots(const EngineOptions& options, const MeshVector& sizes, int num_ranks) {
  const std::optional<size_t> available = AvailableMemoryBytes();
  const double ranks = options.device == Device::kCpu
                           ? PlanRanks(options, sizes, num_ranks).machines.front().bytes
                           : 0;
  return !available.has_value() || ranks + double(SnapshotBytes(options)) <= double(*available);
}

absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes, int num_ranks) {
  STRAKE_ASSIGN_OR_RETURN(const AvailableMemory available,
                          FindAvailableMemory(options.device, options.cuda_device));
  return CheckMemory(options, sizes, num_ranks, available);
}

absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes, int num_ranks,
                         const AvailableMemory& available) {
  STRAKE_RETURN_IF_ERROR(CheckPipeline(options, sizes.pp));
  const double least = LeastBytesOfAMachine(options, sizes, num_ranks);
  if (least > double(available.bytes)) {
    return NotEnough(absl::StrCat("more than ", FormatBytes(least), available.of), available);
  }
  const RanksMemory memory = PlanRanks(options, sizes, num_ranks);
  const MachineMemory& dearest = Dearest(memory.machines);
  if (dearest.bytes <= double(available.bytes)) return absl::OkStatus();
  const bool saves = &dearest == &memory.machines.front() && memory.checkpoint_bytes > 0;
  return NotEnough(
      absl::StrCat(FormatBytes(dearest.bytes), available.of, " (", PlanText(memory, dearest),
                   saves ? "; to save, " + FormatBytes(memory.checkpoint_bytes) : "", ")"),
      available);
}

}  // namespace strake
