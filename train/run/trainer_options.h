// TrainerOptions: what a training run is, apart from the mesh that it runs on and who is told of
// it.
#ifndef STRAKE_TRAIN_RUN_TRAINER_OPTIONS_H_
#define STRAKE_TRAIN_RUN_TRAINER_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "optim/lr_schedule.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"

namespace strake {

enum class ResumePolicy {
  kAuto,            // go on from the last checkpoint in `directory`, if there is one
  kNever,           // start a new run; an error where `directory` holds checkpoints
  kFromCheckpoint,  // go on from `resume_checkpoint`
};

// What errors and warnings call the options. A program whose users give them as flags says which.
struct OptionNames {
  std::string directory = "directory";
  std::string resume = "resume";
  std::string init_from = "init_from";
  std::string train_files = "train_files";
  std::string val_files = "val_files";
  std::string steps = "steps";
  std::string dtype = "dtype";
};

// Members marked * make the run what it is: a run only goes on with the same.
struct TrainerOptions {
  // The model*, sequence length*, micro-batch, dtype, device and threads of a rank.
  EngineOptions engine = {.seq_len = 256, .micro_batch = 8};
  std::string init_from = {};  // model directory in the Hugging Face layout; "": random weights

  // Files, * by their tokens: *.bin are llm.c token files, others text read as bytes.
  std::vector<std::string> train_files = {};
  std::vector<std::string> val_files =
      {};               // empty: the last 10 % of the training data is held back
  bool shuffle = true;  // *
  int64_t seed = 1;     // * of the initial weights and the order of the data

  // * Sequences per step, a multiple of micro_batch times the data-parallel ranks; 0: just that.
  int64_t global_batch = 0;
  // * but for total_steps, the steps of the run.
  LrSchedule schedule = {.lr = 1e-3, .warmup_steps = 100, .total_steps = 2500};
  double weight_decay = 0.1;  // *
  double beta1 = 0.9;         // *
  double beta2 = 0.95;        // *
  double eps = 1e-8;          // *
  double clip_norm = 1;       // * 0: no clipping

  std::string directory = {};  // of run.json and checkpoints
  ResumePolicy resume = ResumePolicy::kAuto;
  std::string resume_checkpoint = {};

  // Steps between validations, samples and checkpoints, 0 for never. Each also comes after the last
  // step, checkpoints in any case.
  int64_t eval_every = 500;
  int64_t eval_batches = -1;  // micro-batches of a validation; -1: 32, and all after the last step
  int64_t sample_every = 500;
  int64_t save_every = 500;
  int64_t keep_last = 3;  // checkpoints; 0: all

  // Asked on every rank between steps; where it is true on any, the run saves and ends.
  std::function<bool()> stop_requested = {};

  // A JSON object: what run.json records of the program's own options. It may be empty. Ranks
  // compare it. The keys that the trainer knows itself (train/run/run_settings.h) are added.
  std::string program_config = {};
  OptionNames names = {};
};

// Sets a global batch that was left open. InvalidArgument, with the values, for options that cannot
// be run on a mesh of these sizes.
absl::Status ResolveTrainerOptions(const MeshVector& sizes, TrainerOptions* options);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINER_OPTIONS_H_
