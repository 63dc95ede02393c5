#include "tools/cli/engine_flags.h"

#include "absl/strings/str_cat.h"
#include "models/head_loss.h"
#include "tools/gpu_tuning/product_tunings.h"
#include "train/plan/memory_plan.h"

namespace strake {

EngineOptions EngineOptionsOf(const ModelConfig& model, int64_t seq_len, int64_t micro_batch,
                              int64_t num_micro_batches, const MachineConfig& machine,
                              const LayoutConfig& layout) {
  return {.model = model,
          .seq_len = seq_len,
          .micro_batch = micro_batch,
          .num_threads = static_cast<int>(machine.threads),
          .op_set = machine.op_set(),
          .dtype = machine.dtype_kind(),
          .device = machine.device_kind(),
          .cuda_device = CudaDeviceOf(layout),
          .product_tunings = ProductTunings(),
          .cuda_graph = machine.cuda_graph,
          .deterministic = machine.deterministic,
          .sequence_parallel = layout.sequence_parallel,
          .context_comm = ContextCommOf(layout),
          .gradients = GradientOptionsOf(layout),
          .pipeline = PipelineOptionsOf(layout, num_micro_batches).value(),
          .logits_chunk = LogitsChunk::For(machine.device_kind()),
          .activation_recompute = ActivationRecomputeOf(machine.activation_recompute)};
}

absl::Status CheckMemoryOfFlags(const EngineOptions& options, const MachineConfig& machine,
                                const LayoutConfig& layout) {
  const int num_ranks = NumRanksInMemory(machine, layout);
  const absl::Status fits = CheckMemory(options, layout.sizes(), num_ranks);
  if (!absl::IsResourceExhausted(fits)) return fits;
  // It holds all micro-batches of a step.
  const bool gpipe = layout.pp > 1 && layout.pp_schedule == "gpipe";
  // Each has all weights of its layers, so that fewer of them need less where they share a memory.
  const bool copies = layout.cp > 1 && num_ranks > 1;
  return absl::ResourceExhaustedError(
      absl::StrCat(fits.message(), "; choose a smaller --model", layout.dp > 1 ? ", --dp" : "",
                   copies ? ", --cp" : "", ", --micro_batch or --seq_len",
                   gpipe ? ", or --pp_schedule=1f1b" : ""));
}

}  // namespace strake
