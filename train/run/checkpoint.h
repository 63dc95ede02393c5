// Checkpoints: a Hugging Face model directory with the optimizer's state and the run's position.
//
//   config.json, model.safetensors   what transformers loads; large weights lie in several files
//                                    (SaveWeights() of models/checkpoint/hf_checkpoint.h)
//   adapter_config.json,             with LoRA, in their place: what PEFT loads. The frozen weights
//     adapter_model.safetensors      stay where they are
//   tokenizer.json and others        of the original model (train/run/carried_files.h)
//   optimizer.safetensors            NAME.exp_avg, NAME.exp_avg_sq and, of bf16 weights,
//                                    NAME.master (f32 weights that they round), f32, in the
//                                    weights' shapes
//   run.json                         train/run/run_record.h
//   manifest.json                    checksums of the others (train/run/manifest.h)
//
// The files hold whole tensors however many ranks train, so that a run resumes under any layout.
#ifndef STRAKE_TRAIN_RUN_CHECKPOINT_H_
#define STRAKE_TRAIN_RUN_CHECKPOINT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/model_config.h"
#include "train/engine/engine.h"
#include "train/run/carried_files.h"
#include "train/run/run_record.h"

namespace strake {

// What the run waits for while one is written.
inline constexpr char kWritingCheckpoint[] = "writing a checkpoint";

// The contents of a checkpoint's files beside the engine's state and the run's record.
struct CheckpointFiles {
  CarriedFiles carried = {};
  std::string base_model = {};  // with LoRA, the directory of the frozen weights
  int64_t max_weights_file_bytes = kMaxWeightsFileBytes;
};

// Writes a checkpoint. Every rank of the engine's mesh calls it. Rank 0 fills `directory`, which
// exists; the others send their parts, and use `engine` alone. Rank 0 takes the
// parts and writes nothing if `directory` is empty. RunDirectory makes it durable and atomic. The
// same state gives the same bytes, whatever the layout. After an error of the disk the ranks may
// call it again; after one of communication they may not.
absl::Status WriteCheckpoint(const std::string& directory, Engine& engine, const RunRecord& record,
                             const CheckpointFiles& files = {}, const OnWork& on_work = nullptr);

// What a checkpoint's files hold, in the host memory of rank 0: training goes on while it is
// written.
class CheckpointSnapshot {
 public:
  // Allocates its memory, SnapshotBytes() (train/plan/memory_plan.h); ResourceExhausted where that
  // fails.
  static absl::StatusOr<CheckpointSnapshot> Create(Engine& engine);

  // Copies the engine's state; the part of rank 0. The other ranks call WriteCheckpoint().
  absl::Status Take(Engine& engine);

  // Writes the same bytes as WriteCheckpoint() did when the snapshot was taken. Any thread may call
  // it.
  absl::Status Write(const std::string& directory, const RunRecord& record,
                     const CheckpointFiles& files, const OnWork& on_work = nullptr) const;

 private:
  explicit CheckpointSnapshot(Engine& engine);

  const Tensor& StateOf(int parameter, int array) const {
    return state_[parameter * suffixes_.size() + array];
  }

  ModelConfig config_;
  DType dtype_;
  ParameterArena whole_;               // without memory
  std::vector<std::string> suffixes_;  // of the optimizer's arrays
  HostMemory memory_;
  std::vector<Tensor> weights_, state_;  // by parameter; by parameter and array
};

// Sets this rank's weights and optimizer state from a checkpoint of the same model, whatever the
// dtype of the run that wrote it: its f32 weights lose no precision. Frozen weights are not
// touched.
absl::Status LoadCheckpoint(const std::string& directory, Engine& engine,
                            const OnWork& on_work = nullptr);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_CHECKPOINT_H_
