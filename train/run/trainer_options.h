// TrainerOptions: the options of a training run, without its mesh and its observers.
#ifndef STRAKE_TRAIN_RUN_TRAINER_OPTIONS_H_
#define STRAKE_TRAIN_RUN_TRAINER_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/blend.h"
#include "data/token_batch.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "optim/lr_schedule.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"

namespace strake {

enum class ResumePolicy {
  kAuto,            // resume from the last checkpoint in `directory`, if there is one
  kNewestGood,      // from the last one whose files agree with its manifest; others are set aside
  kNever,           // start a new run; an error where `directory` holds checkpoints
  kFromCheckpoint,  // resume from `resume_checkpoint`
};

// The options' names in errors and warnings. A program that offers them as flags sets the flags'
// names.
struct OptionNames {
  std::string directory = "directory";
  std::string resume = "resume";
  std::string init_from = "init_from";
  std::string init_adapter = "init_adapter";
  std::string train_files = "train_files";
  std::string val_files = "val_files";
  std::string data_fingerprint = "data_fingerprint_tokens";
  std::string steps = "steps";
  std::string tokenizer = "tokenizer";
  std::string skip_bad_lines = "skip_bad_lines";
  std::string data_cache = "data_cache";
  std::string eval_tasks = "eval_tasks";
  std::string epochs = "epochs";
  std::string max_epochs = "max_epochs";
  std::string dtype = "dtype";
  std::string documents = "documents";
  std::string truncate = "truncate";
  std::string chat_format = "chat_format";
  std::string skip_data = "skip_data";
  std::string lora_rank = "lora_rank";
  std::string lora_alpha = "lora_alpha";
  std::string lora_targets = "lora_targets";
  std::string trace_steps = "trace_steps";
};

// How the files of a run become training and validation data. A run goes on with the rules that it
// began with. The values are part of run.json.
enum class DataRules : uint8_t {
  // Of versions before 0.4: text is bytes for any model, and the last tenth of the tokens is held
  // back.
  kBytesAndEnd = 1,
  // Text is bytes for a model of bytes alone, and a tenth is held back by SplitDocuments().
  kDocuments = 2,
};

// Validation data with a loss of its own.
struct ValidationSet {
  std::string name = {};  // in metrics and on the screen; "" where there is one alone
  std::vector<std::string> files = {};
};

// Training data with a share of the samples.
struct TrainingSource {
  std::string name = {};  // in metrics and on the screen
  std::vector<std::string> files = {};
  double weight = 0;  // data/blend.h
};

// Members marked * identify the run: a run only resumes with the same values.
struct TrainerOptions {
  // The model*, sequence length*, micro-batch, dtype, device and threads of a rank.
  EngineOptions engine = {.seq_len = 256, .micro_batch = 8};
  // Model directory in the Hugging Face layout; "": random weights. With engine.model.lora (*),
  // that of the frozen weights*, which are read again by a run that resumes.
  std::string init_from = {};
  // Directory of the adapter that a run with engine.model.lora begins with; "": a new one.
  std::string init_adapter = {};

  // Files, * by their tokens: *.bin are llm.c token files. Others are text, which is prepared with
  // the tokenizer; a model of bytes, with 256 tokens and no tokenizer, reads plain text as bytes.
  std::vector<std::string> train_files = {};
  // * Instead of train_files: sources, each of which is shuffled and repeated by itself.
  std::vector<TrainingSource> train_sources = {};
  // Where there is none, a tenth of the training data is held back (data/train_val_split.h), of
  // each source by itself.
  std::vector<ValidationSet> val_sets = {};
  // Directory or file; "": that of init_from, if it has one. Checkpoints carry its files: a run
  // that resumes without it takes them.
  std::string tokenizer = {};
  std::string tokenizer_pattern = {};  // of TokenizerOptions
  std::string text_field = "text";     // of JSON lines
  bool skip_bad_lines = false;         // of JSON lines
  // * Of text; conversations: kMask where it is kConcat.
  DocumentMode documents = DocumentMode::kConcat;
  bool truncate = false;         // * conversations: cut what is longer than a sequence
  std::string chat_format = {};  // * of conversations; "": that of the tokenizer's template
  std::string skip_data = {};    // * file that lists documents that are not trained on
  // Of prepared tokens, which all runs share; "": data_cache beside `directory`.
  std::string data_cache = {};
  // * Identified by all tokens if they are no more than this, else by samples of them.
  int64_t data_fingerprint_tokens = int64_t{1} << 30;
  bool shuffle = true;  // *
  int64_t seed = 1;     // * of the initial weights and the order of the data

  // * Sequences per step, a multiple of micro_batch times the data-parallel ranks; 0: exactly that.
  int64_t global_batch = 0;
  // * except total_steps, the steps of the run.
  LrSchedule schedule = {.lr = 1e-3, .warmup_steps = 100, .total_steps = 2500};
  // Passes over the training data, which set total_steps, rounded up; of sources, as many samples
  // as all have. 0: total_steps counts.
  double epochs = 0;
  // The passes over any training data that are no error; 0: any number.
  double max_epochs = 0;
  // Whether warmup_steps is at most a tenth of those steps.
  bool limit_warmup = false;
  double weight_decay = 0.1;  // *
  double beta1 = 0.9;         // *
  double beta2 = 0.95;        // *
  double eps = 1e-8;          // *
  double clip_norm = 1;       // * 0: no clipping

  std::string directory = {};  // of run.json and checkpoints
  ResumePolicy resume = ResumePolicy::kAuto;
  std::string resume_checkpoint = {};

  // Steps between validations, samples and checkpoints; 0 for never. Each also follows the last
  // step, checkpoints even with 0.
  int64_t eval_every = 500;
  int64_t eval_batches = -1;  // micro-batches of a validation; -1: 32, and 320 after the last step
  // Files of multiple-choice questions, whose accuracy each validation tells
  // (train/evaluation/choice_task_file.h).
  std::vector<std::string> eval_tasks = {};
  int64_t sample_every = 500;
  int64_t save_every = 500;
  // The steps that are traced, to `directory`/trace (train/trace/run_trace.h); 0 and 0: none.
  int64_t first_traced_step = 0;
  int64_t last_traced_step = 0;
  int64_t keep_last = 3;                                  // checkpoints; 0: all
  int64_t max_weights_file_bytes = kMaxWeightsFileBytes;  // larger ones lie in several files
  // Save beside the steps that follow, from a snapshot in the first rank's host memory
  // (SnapshotBytes() of train/plan/memory_plan.h).
  bool async_save = true;
  // How long a full or failing disk is tolerated; the run goes on meanwhile.
  int64_t save_retry_seconds = 600;

  // Floating-point operations per second that all ranks can do, which the metrics compare with; 0:
  // not known.
  double peak_flops = 0;
  // Bytes per second that all ranks can move to and from memory; likewise.
  double peak_memory_rate = 0;

  // Called on every rank between steps, and while text is prepared; if it returns true on any rank,
  // the run saves and ends.
  std::function<bool()> stop_requested = {};

  // A JSON object: the program's own options, which run.json records. It may be empty. Ranks
  // compare it. The trainer's own keys (train/run/run_settings.h) are added.
  std::string program_config = {};
  OptionNames names = {};
};

// Sets a global batch that was left open. InvalidArgument, with the values, for options that do not
// fit a mesh of these sizes.
absl::Status ResolveTrainerOptions(const MeshVector& sizes, TrainerOptions* options);

// "concat", "mask" or "pad".
std::string DocumentModeName(DocumentMode mode);

// The lists of training files: train_files, or those of each source.
std::vector<std::vector<std::string>*> TrainLists(TrainerOptions* options);

// The names and weights of the sources.
std::vector<BlendSource> BlendSourcesOf(const TrainerOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINER_OPTIONS_H_
