#include "tools/cli/train_config.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/json.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/chat/chat_format.h"
#include "data/token_batch.h"
#include "data/weighted_paths.h"
#include "glog/logging.h"
#include "models/checkpoint/adapter_config.h"
#include "models/checkpoint/model_files.h"
#include "models/families/families.h"
#include "models/lora_modules.h"
#include "optim/lr_schedule.h"
#include "tools/cli/engine_flags.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/run_name.h"
#include "tools/cli/user_paths.h"
#include "train/run/run_record.h"
#include "train/run/run_settings.h"

namespace strake {
namespace {

// The default learning rate: 4e-3 at a width of 128, 6.5e-4 at 768.
constexpr double kLrTimesHiddenSize = 0.5;
// The default with --init_from: higher rates soon undo what a model has learned.
constexpr double kMaxFineTuningLr = 5e-5;
// The same of adapters, which begin at zero and are few.
constexpr double kMaxLoraLr = 2e-4;
// The default alpha over the rank.
constexpr double kAlphaOfRank = 2;
// With --init_from or --epochs, no more of the steps are warm-up by default.
constexpr int64_t kWarmupShare = 10;
constexpr int64_t kMaxGlobalBatch = 1'000'000'000;

void AddTrainOptions(TrainConfig* c, OptionSet* options) {
  const Range size = Range::Between(1, 1e9), count = Range::Between(0, 1e15);
  const Range rate = Range::Between(0, 1e6);
  options->Group("Model");
  options->Add("model", &c->model,
               absl::StrCat("preset (", absl::StrJoin(ModelPresetNames(), ", "),
                            ") or path of a Hugging Face config.json; with --init_from, that "
                            "directory's unless given"));
  options->Add(
      "init_from", &c->run.init_from,
      "directory in the Hugging Face layout, or of a run, to take the initial weights from; "
      "without it they are random, from --seed; or of an adapter of PEFT, or of a run with "
      "adapters, "
      "to go on from it");
  options->Group("Adapters (LoRA)");
  options->Add("lora_rank", &c->lora_rank,
               "train matrices of this rank beside the linear layers of --init_from, which are "
               "frozen; 0: train all weights",
               Range::Between(0, 1 << 20));
  options->Add("lora_alpha", &c->lora_alpha,
               "the matrices' product counts alpha / rank times; without it twice the rank",
               Range::Between(0, 1e9));
  options->Add("lora_targets", &c->lora_targets,
               "comma-separated linear layers with adapters, by the ends of their names in the "
               "model's files, as q_proj,v_proj; without it all but the head");
  options->Add("init_adapter", &c->run.init_adapter,
               "directory of an adapter to begin from, beside the base in --init_from, where "
               "that is not the one that its adapter_config.json names");
  options->Group("Data");
  options->Add("train_data", &c->train_data,
               "comma-separated files, folders or globs, ** for any number of folders; *.bin are "
               "llm.c token files, others text or .jsonl, also with .gz or .zst, which the "
               "tokenizer encodes, or a model of bytes reads; with weights a blend of sources, "
               "books:a/**:0.7,code:b/**:0.3; without it the King James Bible");
  options->Add(
      "val_data", &c->val_data,
      "the same for validation, also several with names, name:files,name:files; without it "
      "a tenth of --train_data is held back: whole documents drawn by --seed, or the end of "
      "each file");
  options->Add(
      "tokenizer", &c->run.tokenizer,
      "directory or file of the tokenizer that text is encoded by, which checkpoints carry; "
      "without it that of --init_from, if it has one");
  options->Add("tokenizer_pattern", &c->run.tokenizer_pattern,
               "regular expression by which a tiktoken file of ranks that is not known cuts text");
  options->Add("text_field", &c->run.text_field, "field of .jsonl lines that is the text");
  options->Add("skip_bad_lines", &c->run.skip_bad_lines,
               "leave .jsonl lines out that are broken or lack the field, and count them");
  options->Add(
      "chat_format", &c->run.chat_format,
      absl::StrCat("how conversations are written, .jsonl lines with \"messages\", or "
                   "\"prompt\" and \"completion\": ",
                   ChatFormatNames(), "; without it, as the tokenizer's chat template says"));
  options->Add("skip_data", &c->run.skip_data,
               "file that lists documents to leave out of training, PATH:OFFSET a line, as "
               "//tools:data prints them");
  options->Add("documents", &c->documents,
               "what the documents of text are to each other: concat, a stream, in which each sees "
               "those before it; mask, each sees itself alone, several in a sequence; pad, each is "
               "in a sequence of its own; conversations take mask where it is concat",
               {"concat", "mask", "pad"});
  options->Add("truncate", &c->run.truncate,
               "cut conversations that are longer than --seq_len; without it they are an error");
  options->Add("data_cache", &c->run.data_cache,
               "directory of the tokens that text is prepared to, which later runs use again; "
               "without it data_cache beside --out");
  options->Add("data_fingerprint", &c->data_fingerprint,
               "what a run that resumes compares its training tokens by: auto, all of them, or "
               "samples where there are more than 2^30; full, all of them",
               {"auto", "full"});
  options->Add("seq_len", &c->run.engine.seq_len,
               "tokens per sequence; without it 256, or the model's positions if they are fewer",
               size);
  options->Add("micro_batch", &c->run.engine.micro_batch,
               "sequences per data-parallel rank and pass", size);
  options->Add("global_batch", &c->run.global_batch,
               "sequences per step, a multiple of --micro_batch times --dp; without it that of the "
               "run to resume, or for a new run that product",
               Range::Between(0, kMaxGlobalBatch));
  options->Add("shuffle", &c->run.shuffle, "take sequences in an order drawn from --seed");
  options->Group("Optimizer");
  options->Add("steps", &c->run.schedule.total_steps, "optimizer steps in all",
               Range::Between(1, 1e15));
  options->Add(
      "epochs", &c->run.epochs,
      "passes over the training data, which may be a fraction; sets --steps; 0: as --steps "
      "says",
      Range::Between(0, 1e9));
  options->Add("max_epochs", &c->run.max_epochs,
               "passes over the training data, or over any source of a blend, above which a run "
               "is an error; 0: any number",
               Range::Between(0, 1e9));
  options->Add(
      "lr", &c->run.schedule.lr,
      "peak learning rate; without it 0.5 / hidden size, and with --init_from at most 5e-5, of "
      "adapters 2e-4",
      rate);
  options->Add("min_lr", &c->run.schedule.min_lr, "learning rate at the end of the schedule", rate);
  options->Add("schedule", &c->schedule, "shape of the learning rate after warm-up",
               {"constant", "linear", "cosine", "wsd"});
  options->Add(
      "warmup_steps", &c->run.schedule.warmup_steps,
      "steps of linear warm-up; without it 100, and with --init_from or --epochs at most a "
      "tenth of the steps",
      count);
  options->Add("weight_decay", &c->run.weight_decay, "AdamW's decay of matrices and embeddings",
               rate);
  options->Add("beta1", &c->run.beta1, "AdamW's decay rate of the first moment",
               Range::HalfOpen(0, 1));
  options->Add("beta2", &c->run.beta2, "AdamW's decay rate of the second moment",
               Range::HalfOpen(0, 1));
  // A smaller epsilon is 0 in f32, and AdamW divides by it where a gradient has always been 0.
  options->Add("eps", &c->run.eps, "AdamW's epsilon", Range::Between(1e-37, 1));
  options->Add("clip_norm", &c->run.clip_norm, "largest global gradient norm; 0: no clipping",
               rate);
  options->Group("Run");
  options->Add("seed", &c->run.seed, "seed of the initial weights and the order of the data",
               count);
  AddMachineOptions(&c->machine, options);
  AddTrainingOptions(&c->machine, options);
  options->Add(
      "out", &c->run.directory,
      "directory of checkpoints and metrics; without it runs/MODEL, or runs/MODEL-2, ... where "
      "that holds a run of other settings; alone, or with --steps, it goes on with the run there "
      "and all its options");
  options->Add(
      "resume", &c->resume,
      "auto: resume from the last checkpoint in --out; newest_good: from the last one that is not "
      "damaged; never: only start a new run; or the "
      "path of a checkpoint, or of a run, to resume from");
  options->Add("exit_zero_on_stop", &c->exit_zero_on_stop,
               "exit with 0 where a signal stopped the run before its end; without it with 3");
  AddLayoutOptions(&c->layout, options);
  AddContextCommOption(&c->layout, options);
  AddPipelineOptions(&c->layout, options);
  AddGradReduceOption(&c->layout, options);
  options->Group("Output (0: never)");
  options->Add("log_every", &c->log_every,
               "steps between lines on the screen; -1: a twentieth of all steps, at most 50",
               Range::Between(-1, 1e15));
  options->Add("quiet", &c->quiet, "print warnings, errors and the last step's lines alone")
      .FlagOnly();
  options->Add("tensorboard", &c->tensorboard,
               "write scalars and samples to OUT/tensorboard, too, for TensorBoard");
  options
      ->Add("trace_steps", &c->trace_steps,
            "A..B: write what each rank does in these steps to OUT/trace, for Perfetto")
      .FlagOnly();
  options->Add("eval_every", &c->run.eval_every,
               "steps between validations; there is one after the "
               "last step, too",
               count);
  options->Add("eval_batches", &c->run.eval_batches,
               "micro-batches per validation; -1: 32, and 320 after the last step",
               Range::Between(-1, 1e15));
  options->Add(
      "eval_tasks", &c->eval_tasks,
      "comma-separated files of multiple-choice questions, .jsonl lines of context, choices "
      "and answer, or llm.c's HellaSwag file, whose accuracy each validation prints");
  options->Add("sample_every", &c->run.sample_every,
               "steps between samples of generated text; there is one after the last step, too",
               count);
  options->Add("save_every", &c->run.save_every,
               "steps between checkpoints; there is one after the last step in any case", count);
  options->Add("keep_last", &c->run.keep_last, "checkpoints kept; 0: all", count);
  options->Add("async_save", &c->run.async_save,
               "save beside the steps that follow, from a snapshot in the first rank's memory; off "
               "where there is no room for one");
  options->Add("save_retry", &c->run.save_retry_seconds,
               "seconds for which a run goes on, and tries again to save, when the disk is full or "
               "fails",
               count);
  options->Paths({"model", "init_from", "init_adapter", "tokenizer", "skip_data", "data_cache",
                  "out", "resume"});
  options->PathLists({"train_data", "val_data", "eval_tasks"});
  options->Suggest("model", ModelPresetNames());
  options->Suggest("resume", {"auto", "newest_good", "never"});
}

// A preset's name ("gpt2-124m"); for a path the folder's name, or the file's where there is none.
std::string ModelLabel(const std::string& model) {
  const std::filesystem::path path(model);
  if (path.extension() != ".json") return path.filename();
  const std::string parent = path.parent_path().filename();
  return parent.empty() || parent == "." || parent == ".." ? path.stem().string() : parent;
}

std::string DefaultDirectory(const std::string& model) {
  return "runs/" + ModelLabel(std::filesystem::path(model).lexically_normal());
}

// The checkpoint or folder of the run to resume, if there is one.
const std::string& RunToGoOnWith(const TrainConfig& c) {
  return IsResumePath(c.resume) ? c.resume : c.run.directory;
}

// A number that identifies that run; null where there is none. The code that resumes reports a
// damaged record.
nlohmann::ordered_json SavedNumber(const TrainConfig& c, const char* key) {
  const auto record = ReadRunRecord(RunToGoOnWith(c));
  if (!record.ok()) return {};
  const auto number = record->identity.value(key, nlohmann::ordered_json());
  return number.is_number() ? number : nlohmann::ordered_json();
}

// The global batch of that run; 0 where there is none.
int64_t SavedGlobalBatch(const TrainConfig& c) {
  const auto batch = SavedNumber(c, "global_batch");
  if (!batch.is_number_integer()) return 0;
  return std::clamp<int64_t>(batch.get<int64_t>(), 0, kMaxGlobalBatch);
}

double DefaultLr(const ModelConfig& model) {
  return kLrTimesHiddenSize / static_cast<double>(model.hidden_size);
}

void ResolveLr(const ModelConfig& model, TrainConfig* c, std::vector<std::string>* notices) {
  double& lr = c->run.schedule.lr;
  lr = DefaultLr(model);
  if (c->run.init_from.empty()) return;
  const auto saved = SavedNumber(*c, "lr");
  const double most = c->lora_rank > 0 ? kMaxLoraLr : kMaxFineTuningLr;
  lr = saved.is_null() ? std::min(lr, most) : saved.get<double>();
  notices->push_back(absl::StrCat(
      "the peak learning rate is ", lr,
      saved.is_null() ? ", for fine-tuning; --lr sets another" : ", that of the run that goes on"));
}

// With --epochs the trainer knows the steps, and limits their warm-up.
void ResolveWarmup(TrainConfig* c) {
  int64_t& warmup = c->run.schedule.warmup_steps;
  c->run.limit_warmup = c->run.epochs > 0;
  if (c->run.init_from.empty() && c->run.epochs == 0) return;
  const auto saved = SavedNumber(*c, "warmup_steps");
  if (saved.is_number_unsigned()) {
    warmup = std::clamp<int64_t>(saved.get<int64_t>(), 0, int64_t{1} << 50);
    c->run.limit_warmup = false;
  } else if (c->run.epochs == 0) {
    warmup = std::min(warmup, c->run.schedule.total_steps / kWarmupShare);
  }
}

absl::Status ResolveGlobalBatch(TrainConfig* c) {
  const int64_t saved = c->run.global_batch == 0 ? SavedGlobalBatch(*c) : 0;
  if (saved > 0) c->run.global_batch = saved;
  if (c->run.global_batch == 0) c->run.global_batch = c->run.engine.micro_batch * c->layout.dp;
  const absl::Status fits = CheckBatch(c->layout, c->run.engine.micro_batch, c->run.global_batch);
  if (fits.ok() || saved == 0) return fits;
  return absl::Status(fits.code(),
                      absl::StrCat(fits.message(), "; the batch is that of the run in ",
                                   RunToGoOnWith(*c), ": to begin another, choose another --out"));
}

DocumentMode DocumentsOf(const TrainConfig& c) {
  return c.documents == "mask"  ? DocumentMode::kMask
         : c.documents == "pad" ? DocumentMode::kPad
                                : DocumentMode::kConcat;
}

// Per step and data-parallel rank.
int64_t NumMicroBatches(const TrainConfig& c) {
  return c.run.global_batch / c.run.engine.micro_batch / c.layout.dp;
}

// Sets the values that follow from the other members.
void ResolveRun(const ModelConfig& model, TrainConfig* c) {
  const auto kind = ParseScheduleKind(c->schedule);
  CHECK(kind.ok()) << kind.status();
  c->run.schedule.kind = *kind;
  c->run.documents = DocumentsOf(*c);
  c->run.engine = EngineOptionsOf(model, c->run.engine.seq_len, c->run.engine.micro_batch,
                                  NumMicroBatches(*c), c->machine, c->layout);
  if (c->data_fingerprint == "full") {
    c->run.data_fingerprint_tokens = std::numeric_limits<int64_t>::max();
  }
  if (!IsResumePath(c->resume)) {
    c->run.resume = c->resume == "auto"    ? ResumePolicy::kAuto
                    : c->resume == "never" ? ResumePolicy::kNever
                                           : ResumePolicy::kNewestGood;
  } else {
    c->run.resume = ResumePolicy::kFromCheckpoint;
    c->run.resume_checkpoint = c->resume;
  }
}

// Sets the options that the user left open and that follow from the run in run.directory, if it
// holds one.
absl::Status ResolveFromRun(const OptionSet& given, const ModelConfig& model, TrainConfig* c,
                            std::vector<std::string>* notices) {
  if (!given.IsSet("lr")) ResolveLr(model, c, notices);
  if (!given.IsSet("warmup_steps")) ResolveWarmup(c);
  return ResolveGlobalBatch(c);
}

// What makes it this run: its identity, with the names of its data in place of what is known when
// the data has been read.
nlohmann::ordered_json SettingsToCompare(nlohmann::ordered_json identity,
                                         const nlohmann::ordered_json& config) {
  static const auto* const defaults = new nlohmann::ordered_json(ToJson(TrainConfig()));
  for (const char* key : {"blend", "data_rules", kBaseWeightsKey}) identity.erase(key);
  for (const char* key :
       {"init_from", "init_adapter", "train_data", "tokenizer", "tokenizer_pattern", "text_field",
        "skip_bad_lines", "chat_format", "documents", "skip_data"}) {
    identity[key] = config.value(key, (*defaults)[key]);
  }
  // What is held back for validation is not trained on.
  if (config.value("val_data", nlohmann::ordered_json("")) == "") identity["val_data"] = "";
  return identity;
}

// The first few of the differences between the settings of the run there and of this one; empty
// where there is none.
std::string DifferencesFrom(const RunRecord& record, const OptionSet& given,
                            const ModelConfig& model, TrainConfig c) {
  std::vector<std::string> notices;
  if (!ResolveFromRun(given, model, &c, &notices).ok()) {
    return absl::StrCat("global_batch is ", SavedGlobalBatch(c), " there, no multiple of ",
                        "--micro_batch=", c.run.engine.micro_batch, " times --dp=", c.layout.dp);
  }
  ResolveRun(model, &c);
  std::vector<std::string> differences =
      absl::StrSplit(RunDifferences(SettingsToCompare(record.identity, record.config),
                                    SettingsToCompare(IdentityOf(c.run, ""), ToJson(c))),
                     "; ");
  constexpr size_t kShown = 3;
  if (differences.size() > kShown) {
    differences.resize(kShown);
    differences.push_back("...");
  }
  return absl::StrJoin(differences, "; ");
}

// Chooses the run's directory where the user named none.
void ResolveDirectory(const OptionSet& given, const ModelConfig& model, TrainConfig* c,
                      std::vector<std::string>* notices) {
  if (!c->run.directory.empty()) return;
  const std::string base = DefaultDirectory(c->model);
  const RunName name =
      ChooseRunName(base, /*new_run=*/c->resume == "never",
                    [&](const std::string& directory, const RunRecord& record) {
                      TrainConfig there = *c;
                      there.run.directory = directory;
                      return DifferencesFrom(record, given, model, std::move(there));
                    });
  c->run.directory = name.directory;
  if (name.directory == base) return;
  notices->push_back(absl::StrCat("the run is ", name.directory,
                                  name.reason.empty() ? ", which was begun with these settings"
                                                      : absl::StrCat(", since ", name.reason)));
}

// Sets the options that the user left open and that follow from the others.
absl::Status Resolve(const OptionSet& given, const ModelConfig& model, TrainConfig* c,
                     std::vector<std::string>* notices) {
  if (!given.IsSet("seq_len"))
    c->run.engine.seq_len = std::min(c->run.engine.seq_len, model.max_positions);
  STRAKE_RETURN_IF_ERROR(CheckSeqLenFlag(model, c->run.engine.seq_len));
  STRAKE_RETURN_IF_ERROR(CheckProcesses(c->layout));
  STRAKE_RETURN_IF_ERROR(CheckLayout(c->layout, model, c->run.engine.seq_len));
  ResolveDirectory(given, model, c, notices);
  STRAKE_RETURN_IF_ERROR(ResolveFromRun(given, model, c, notices));
  STRAKE_RETURN_IF_ERROR(CheckStages(c->layout, model, NumMicroBatches(*c)));
  if (c->run.engine.micro_batch > (int64_t{1} << 31) / c->run.engine.seq_len) {
    return absl::InvalidArgumentError(absl::StrCat("--micro_batch=", c->run.engine.micro_batch,
                                                   " times --seq_len=", c->run.engine.seq_len,
                                                   " is more than 2^31 tokens in a pass"));
  }
  if (c->run.schedule.min_lr > c->run.schedule.lr) {
    return absl::InvalidArgumentError(
        absl::StrCat("--min_lr=", c->run.schedule.min_lr, " is above --lr=", c->run.schedule.lr));
  }
  STRAKE_RETURN_IF_ERROR(ResolveMachine(c->layout, &c->machine));
  ResolveRun(model, c);
  return absl::OkStatus();
}

// "RUN" to the path of its last checkpoint; "" stays.
absl::Status ResolveFolder(absl::string_view flag, std::string* path) {
  if (path->empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(*path, ModelFolderOfFlag(flag, *path));
  return absl::OkStatus();
}

// The options in a JSON text; those of the run where it is a run.json, except how it was resumed.
absl::StatusOr<std::string> OptionsIn(const std::string& text, const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(nlohmann::json json, ParseJson(text, path));
  if (!json.is_object() || !json.contains("format_version") || !json.contains("config"))
    return text;
  nlohmann::json& config = json["config"];
  if (config.is_object()) config.erase("resume");
  return JsonText(config);
}

absl::Status ReadConfig(const std::string& path, OptionSet* options) {
  const auto text = ReadFile(path);
  if (!text.ok()) {
    return absl::Status(text.status().code(), absl::StrCat("--config=", text.status().message()));
  }
  STRAKE_ASSIGN_OR_RETURN(const std::string json, OptionsIn(*text, path));
  return options->ParseJson(json, path);
}

// Returns whether the flags say no more than which run to go on with, and for how long.
bool NamesARunAlone(const OptionSet& options) {
  const std::vector<std::string> names = options.NamesSet();
  const auto is_of_run = [](const std::string& name) {
    return name == "out" || name == "steps" || name == "epochs" || name == "max_epochs" ||
           name == "log_every" || name == "tensorboard" || name == "trace_steps" ||
           name == "quiet" || name == "exit_zero_on_stop" || name == "data_fingerprint";
  };
  return options.IsSet("out") && std::all_of(names.begin(), names.end(), is_of_run);
}

// Shows in the help what open values stand for. `defaults` has those of all options.
absl::Status ShowDefaults(const TrainConfig& defaults, OptionSet* options) {
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          FindModelConfig(defaults.model, /*notices=*/nullptr));
  options->ShowDefault("lr", absl::StrCat(DefaultLr(model)));
  options->ShowDefault("global_batch", absl::StrCat(defaults.run.engine.micro_batch));
  options->ShowDefault("out", DefaultDirectory(defaults.model));
  options->ShowDefault("data_cache", "runs/data_cache");
  return absl::OkStatus();
}

absl::StatusOr<std::string> TrainPaths(const TrainConfig& config) {
  if (!config.train_data.empty()) return config.train_data;
  const auto text = RunfilePath("data/kjv.txt");
  if (text.ok()) return *text;
  return absl::NotFoundError(absl::StrCat("the default text is missing (", text.status().message(),
                                          "); give --train_data"));
}

// Sets init_adapter and init_from where the latter is an adapter.
absl::Status ResolveInitFrom(TrainConfig* c) {
  std::string& init_from = c->run.init_from;
  STRAKE_RETURN_IF_ERROR(ResolveFolder("--init_from", &init_from));
  if (init_from.empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const bool is_adapter, HoldsAdapter(init_from));
  if (!is_adapter) return absl::OkStatus();
  if (!c->run.init_adapter.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--init_from=", init_from, " is an adapter, and so is --init_adapter; give its base"));
  }
  const auto files = FindModelFiles(init_from, /*base=*/"", /*notices=*/nullptr);
  if (absl::IsNotFound(files.status())) {
    return absl::NotFoundError(absl::StrCat("--init_from: ", files.status().message(),
                                            " by --init_from, and the adapter's by "
                                            "--init_adapter"));
  }
  STRAKE_RETURN_IF_ERROR(NameError("--init_from", files.status()));
  c->run.init_adapter = std::exchange(init_from, files->base);
  return absl::OkStatus();
}

// Takes the adapters' options from the adapter that a run begins from. A run that resumes, whose
// options are known, does not need it.
absl::Status ReadInitAdapter(TrainConfig* c, std::vector<std::string>* notices) {
  if (c->run.init_adapter.empty()) return absl::OkStatus();
  const auto folder = ModelFolderOfFlag("--init_adapter", c->run.init_adapter);
  if (absl::IsNotFound(folder.status()) && c->lora_rank > 0) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(folder.status());
  const std::string& directory = c->run.init_adapter = *folder;
  STRAKE_ASSIGN_OR_RETURN(const AdapterConfig adapter,
                          NameError("--init_adapter", ReadAdapterConfig(directory, notices)));
  const LoraConfig& lora = adapter.lora;
  const std::string targets = absl::StrJoin(lora.targets, ",");
  const auto check = [&](const char* flag, const auto& given, const auto& there, bool open) {
    if (open || given == there) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(flag, "=", given, ": the adapter in ", directory,
                                                   " has ", there, "; leave the flag out"));
  };
  STRAKE_RETURN_IF_ERROR(check("--lora_rank", c->lora_rank, lora.rank, c->lora_rank == 0));
  STRAKE_RETURN_IF_ERROR(check("--lora_alpha", c->lora_alpha, lora.alpha, c->lora_alpha == 0));
  STRAKE_RETURN_IF_ERROR(
      check("--lora_targets", c->lora_targets, targets, c->lora_targets.empty()));
  c->lora_rank = lora.rank;
  c->lora_alpha = lora.alpha;
  c->lora_targets = targets;
  return absl::OkStatus();
}

// Sets the adapters of the model.
absl::Status ResolveAdapters(TrainConfig* c, ModelConfig* model) {
  if (c->lora_rank == 0) {
    if (c->lora_alpha == 0 && c->lora_targets.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(c->lora_alpha != 0 ? absl::StrCat("--lora_alpha=", c->lora_alpha)
                                        : absl::StrCat("--lora_targets=", c->lora_targets),
                     ": there are adapters with --lora_rank alone; give their rank"));
  }
  if (c->run.init_from.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--lora_rank=", c->lora_rank,
                     ": adapters are added to trained weights; give them by --init_from"));
  }
  if (c->lora_alpha == 0) c->lora_alpha = kAlphaOfRank * static_cast<double>(c->lora_rank);
  model->lora = {.rank = c->lora_rank, .alpha = c->lora_alpha};
  if (!c->lora_targets.empty()) model->lora.targets = absl::StrSplit(c->lora_targets, ',');
  return NameError(
      c->run.init_adapter.empty() ? "--lora_targets" : "--init_adapter=" + c->run.init_adapter,
      CheckLora(*model));
}

// Sets the steps of "A..B"; none for "".
absl::Status SetTracedSteps(const std::string& text, TrainerOptions* run) {
  run->first_traced_step = run->last_traced_step = 0;
  if (text.empty()) return absl::OkStatus();
  const size_t dots = text.find("..");
  int64_t first = 0, last = 0;
  if (dots == std::string::npos || !absl::SimpleAtoi(text.substr(0, dots), &first) ||
      !absl::SimpleAtoi(text.substr(dots + 2), &last) || first < 1 || last < first) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--trace_steps=", text, ": give a first and a last step, like --trace_steps=10..12"));
  }
  run->first_traced_step = first;
  run->last_traced_step = last;
  return absl::OkStatus();
}

// Sets what follows from the options.
absl::Status Complete(const OptionSet& options, TrainCommand* command) {
  TrainConfig* config = &command->config;
  STRAKE_RETURN_IF_ERROR(SetTracedSteps(config->trace_steps, &config->run));
  STRAKE_RETURN_IF_ERROR(ResolveInitFrom(config));
  STRAKE_RETURN_IF_ERROR(ReadInitAdapter(config, &command->notices));
  if (config->resume.empty()) {
    return absl::InvalidArgumentError(
        "--resume is empty; give auto, newest_good, never, or a path");
  }
  if (IsResumePath(config->resume)) {
    STRAKE_RETURN_IF_ERROR(ResolveFolder("--resume", &config->resume));
  }
  if (!config->run.init_from.empty() && !options.IsSet("model")) {
    config->model = config->run.init_from + "/config.json";
  }
  STRAKE_ASSIGN_OR_RETURN(command->model, FindModelConfig(config->model, &command->notices));
  STRAKE_RETURN_IF_ERROR(ResolveAdapters(config, &command->model));
  return Resolve(options, command->model, config, &command->notices);
}

// The status with the file that the options came from, where the user did not name it.
absl::Status NameRunRecord(const TrainCommand& command, const absl::Status& status) {
  if (status.ok() || command.run_record.empty()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(status.message(), "; the options are those of ", command.run_record,
                   ", whose paths begin in the folder where that run was started"));
}

// Also a symbolic link to nothing. A long list is longer than a name can be.
bool IsPath(const std::string& text) {
  struct stat info;
  return lstat(text.c_str(), &info) == 0;
}

// "a.txt,b/**", or "books:a.txt,b.txt,code:c/**".
absl::StatusOr<std::vector<ValidationSet>> ValidationSetsOf(const std::string& flag) {
  struct NamedPaths {
    std::string name, paths;
  };
  std::vector<NamedPaths> sets;
  if (flag.empty()) return std::vector<ValidationSet>();
  for (absl::string_view entry : absl::StrSplit(flag, ',')) {
    const absl::string_view name = NameOfEntry(entry, IsPath);
    if (!name.empty() || sets.empty()) {
      sets.push_back({std::string(name), ""});
      if (!name.empty()) entry.remove_prefix(name.size() + 1);
    } else {
      sets.back().paths += ',';
    }
    absl::StrAppend(&sets.back().paths, entry);
  }
  std::vector<ValidationSet> result;
  for (const NamedPaths& set : sets) {
    STRAKE_ASSIGN_OR_RETURN(std::vector<std::string> files,
                            LastingFilesOfFlag("--val_data", set.paths));
    const bool twice = std::any_of(result.begin(), result.end(), [&](const ValidationSet& other) {
      return other.name == set.name;
    });
    if (twice) {
      return absl::InvalidArgumentError(absl::StrCat("--val_data: two sets are called ", set.name,
                                                     "; give each a name of its own"));
    }
    result.push_back({set.name, std::move(files)});
  }
  return result;
}

// Sets the files to train on, or the sources where they have weights.
absl::Status AddTrainFiles(const TrainConfig& config, TrainerOptions* options) {
  constexpr char kFlag[] = "--train_data";
  STRAKE_ASSIGN_OR_RETURN(const std::string paths, TrainPaths(config));
  const auto sources = ParseWeightedPaths(paths, IsPath);
  if (!sources.ok()) return NameError(kFlag, sources.status());
  for (const WeightedPaths& source : *sources) {
    STRAKE_ASSIGN_OR_RETURN(std::vector<std::string> files,
                            LastingFilesOfFlag(kFlag, source.paths));
    options->train_sources.push_back({source.name, std::move(files), source.weight});
  }
  if (!sources->empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(options->train_files, LastingFilesOfFlag(kFlag, paths));
  return absl::OkStatus();
}

absl::StatusOr<TrainerOptions> OptionsWithFiles(const TrainConfig& config) {
  TrainerOptions options = config.run;
  STRAKE_RETURN_IF_ERROR(AddTrainFiles(config, &options));
  STRAKE_ASSIGN_OR_RETURN(options.val_sets, ValidationSetsOf(config.val_data));
  if (!config.eval_tasks.empty()) {
    STRAKE_ASSIGN_OR_RETURN(options.eval_tasks, FilesOfFlag("--eval_tasks", config.eval_tasks));
  }
  return options;
}

}  // namespace

absl::StatusOr<TrainCommand> ParseTrainCommand(int argc, const char* const* argv) {
  TrainCommand command;
  std::string config_path;
  OptionSet options("train");
  AddTrainOptions(&command.config, &options);
  options.Group("Configuration");
  options.Add("config", &config_path, "JSON file of options, or a run.json; flags override it")
      .FlagOnly();
  options.Paths({"config"});
  options.Add("print_config", &command.print_config, "print the configuration and stop").FlagOnly();
  STRAKE_RETURN_IF_ERROR(ShowDefaults(command.config, &options));
  STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
  const std::optional<std::string> text = TextAskedFor(options);
  command.show_help = text.has_value();
  if (text.has_value()) {
    command.help = *text;
    return command;
  }
  if (config_path.empty() && NamesARunAlone(options)) {
    const std::string record = command.config.run.directory + "/run.json";
    STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(record));
    if (kind != PathKind::kNothing) config_path = command.run_record = record;
  }
  const bool steps_given = options.IsSet("steps");
  if (steps_given && options.IsSet("epochs") && command.config.run.epochs > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--steps=", command.config.run.schedule.total_steps,
        " and --epochs=", command.config.run.epochs, " both say how long to train; give one"));
  }
  if (!config_path.empty()) STRAKE_RETURN_IF_ERROR(ReadConfig(config_path, &options));
  if (steps_given) command.config.run.epochs = 0;
  STRAKE_RETURN_IF_ERROR(NameRunRecord(command, Complete(options, &command)));
  return command;
}

nlohmann::ordered_json ToJson(const TrainConfig& config) {
  TrainConfig copy = config;
  OptionSet options("train");
  AddTrainOptions(&copy, &options);
  nlohmann::ordered_json json = options.ToJson();
  // The trainer finds these.
  if (config.run.epochs > 0) json.erase("steps");
  if (config.run.limit_warmup) json.erase("warmup_steps");
  return json;
}

absl::StatusOr<TrainerOptions> TrainerOptionsOf(const TrainCommand& command) {
  absl::StatusOr<TrainerOptions> with_files = OptionsWithFiles(command.config);
  if (!with_files.ok()) return NameRunRecord(command, with_files.status());
  TrainerOptions options = *std::move(with_files);
  options.program_config = JsonText(ToJson(command.config));
  options.names = {.directory = "--out",
                   .resume = "--resume",
                   .init_from = "--init_from",
                   .init_adapter = "--init_adapter",
                   .train_files = "--train_data",
                   .val_files = "--val_data",
                   .data_fingerprint = "--data_fingerprint=full",
                   .steps = "--steps",
                   .tokenizer = "--tokenizer",
                   .skip_bad_lines = "--skip_bad_lines",
                   .data_cache = "--data_cache",
                   .eval_tasks = "--eval_tasks",
                   .epochs = "--epochs",
                   .max_epochs = "--max_epochs",
                   .dtype = "--dtype",
                   .documents = "--documents",
                   .truncate = "--truncate",
                   .chat_format = "--chat_format",
                   .skip_data = "--skip_data",
                   .lora_rank = "--lora_rank",
                   .lora_alpha = "--lora_alpha",
                   .lora_targets = "--lora_targets",
                   .trace_steps = "--trace_steps"};
  return options;
}

absl::StatusOr<TrainerOptions> DataOptionsOf(const RunRecord& record,
                                             const std::string& record_path) {
  TrainCommand command;
  command.run_record = record_path;
  OptionSet options("train");
  AddTrainOptions(&command.config, &options);
  STRAKE_RETURN_IF_ERROR(options.ParseJson(JsonText(record.config), record_path));
  command.config.run.documents = DocumentsOf(command.config);
  // The files that gave the model are not needed.
  const nlohmann::ordered_json model =
      record.identity.value("model", nlohmann::ordered_json::object());
  STRAKE_ASSIGN_OR_RETURN(command.config.run.engine.model,
                          ParseHfConfig(JsonText(model), record_path, nullptr));
  return TrainerOptionsOf(command);
}

}  // namespace strake
