// Prints text from a checkpoint: `bazel run //tools:generate -- --help`.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "core/base/format_quantity.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/base/work_state.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/memory/activation_arena.h"
#include "data/chat/chat_encoder.h"
#include "data/chat/chat_format.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/tokenizer.h"
#include "models/checkpoint/model_files.h"
#include "models/generator.h"
#include "models/model_parts.h"
#include "models/rope_tables.h"
#include "models/transformer.h"
#include "parallel/mesh/mesh.h"
#include "tools/cli/checkpoint_flags.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"
#include "tools/cli/run_on_ranks.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "tools/generating/converse.h"
#include "tools/generating/end_tokens.h"
#include "tools/generating/generated_text.h"
#include "tools/generating/prompts.h"
#include "tools/gpu_tuning/product_tunings.h"
#include "train/engine/engine_options.h"
#include "train/engine/inference_model.h"
#include "train/plan/memory_plan.h"

namespace strake {
namespace {

struct GenerateConfig {
  std::string checkpoint = "runs/llama-tiny";
  std::string base_model;
  std::string tokenizer, tokenizer_pattern;
  std::string prompt = "\n";
  std::string prompt_tokens, prompts;
  bool chat = false;
  std::string chat_format, system;
  int64_t chat_tokens = 4096;
  int64_t max_tokens = 500;
  int64_t batch = kMaxGenerationBatch;
  bool ignore_eos = false;
  bool json = false;
  bool quiet = false;
  int64_t seed = 1;
  MachineConfig machine;
  LayoutConfig layout;
  SamplingOptions sampling = {.temperature = 0.8};
};

void AddGenerateOptions(GenerateConfig* c, OptionSet* options) {
  options->Add("checkpoint", &c->checkpoint,
               "checkpoint, a model directory in the Hugging Face layout, or the --out of a run, "
               "whose last checkpoint is taken; or an adapter of PEFT");
  options->Add("base_model", &c->base_model, kBaseModelHelp);
  options->Add("tokenizer", &c->tokenizer,
               "tokenizer, or the directory of one: tokenizer.json, vocab.json with merges.txt, "
               "tekken.json, a SentencePiece model, or tiktoken's ranks; without it, the "
               "checkpoint's, or of a model with a vocabulary of 256 its bytes");
  options->Add("tokenizer_pattern", &c->tokenizer_pattern,
               "the regular expression that splits text, for tiktoken's ranks that are not known");
  options->Add("prompt", &c->prompt, "text to continue").AnyBytes();
  options->Add("prompt_tokens", &c->prompt_tokens,
               "comma-separated token numbers to continue; the output is token numbers too");
  options->Add("prompts", &c->prompts,
               "file of prompts to continue: one a line, or of .jsonl the member \"prompt\" of "
               "each line");
  options->Add("chat", &c->chat,
               "converse: an answer follows each line of the standard input, on one rank");
  options->Add("chat_format", &c->chat_format,
               absl::StrCat("how the model writes a conversation: ", ChatFormatNames(),
                            "; without it, as the checkpoint's chat template says"));
  options->Add("system", &c->system, "with --chat, what the system says first");
  options->Add("chat_tokens", &c->chat_tokens,
               "tokens of the longest conversation; at most the model's positions count",
               Range::Between(1, 1e9));
  options->Add("batch", &c->batch,
               "prompts at a time, for which each weight is read once; up to 8, a prompt has the "
               "continuation that it has alone",
               Range::Between(1, 1024));
  options->Add("max_tokens", &c->max_tokens, "tokens to generate", Range::Between(1, 1e9));
  options->Add("ignore_eos", &c->ignore_eos, "go on behind tokens that end a text");
  options->Add("json", &c->json, "print an object a line for each prompt");
  AddQuietOption(&c->quiet, options);
  options->Group("Sampling, in this order");
  options->Add("repetition_penalty", &c->sampling.repetition_penalty,
               "divide the logits of tokens that the text has already; 1: none", Range::Above(0));
  options->Add("temperature", &c->sampling.temperature, "0: always the likeliest token",
               Range::Between(0, 1e6));
  options->Add("top_k", &c->sampling.top_k, "draw from the k likeliest tokens; 0: from all",
               Range::Between(0, 1e9));
  options->Add("top_p", &c->sampling.top_p,
               "draw from the likeliest tokens whose probabilities reach p", Range{0, 1, true});
  options->Add("min_p", &c->sampling.min_p,
               "draw from tokens of at least this share of the likeliest one's probability",
               Range::Between(0, 1));
  options->Add("seed", &c->seed, "seed of the first prompt's sampling; the next has one more",
               Range::Between(0, 1e15));
  options->Group("Machine");
  AddMachineOptions(&c->machine, options);
  AddLayoutOptions(&c->layout, options);
  AddStageLayersOption(&c->layout, options);
  options->Paths({"checkpoint", "base_model", "tokenizer", "prompts"});
}

// The checkpoint's tokenizer or the flag's.
absl::StatusOr<std::unique_ptr<const Tokenizer>> FindTokenizer(const GenerateConfig& config,
                                                               const GivenCheckpoint& checkpoint) {
  STRAKE_ASSIGN_OR_RETURN(
      auto tokenizer, OpenTokenizerFlag(config.tokenizer, config.tokenizer_pattern, checkpoint));
  if (tokenizer != nullptr) return tokenizer;
  return absl::InvalidArgumentError(absl::StrCat(
      "--checkpoint: ", checkpoint.directory, " holds no tokenizer, and its vocabulary of ",
      checkpoint.model.vocab_size, " is not bytes; give --tokenizer, or --prompt_tokens"));
}

absl::StatusOr<std::vector<int32_t>> ParseTokens(const std::string& list, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (const absl::string_view word : absl::StrSplit(list, ',')) {
    int32_t token;
    if (!absl::SimpleAtoi(word, &token) || token < 0 || token >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--prompt_tokens: \"", word, "\" is not a token number from 0 to ", vocab_size - 1));
    }
    tokens.push_back(token);
  }
  return tokens;
}

// As Hugging Face does for a plain prompt, after what the tokenizer puts before a text.
Prompt EncodePrompt(const Tokenizer& tokenizer, const std::string& text, WordCache* cache) {
  Prompt prompt = {.text = text, .tokens = tokenizer.spec().prefix};
  tokenizer.Encode(text, cache, &prompt.tokens);
  return prompt;
}

// `tokenizer` is null for token numbers.
absl::StatusOr<std::vector<Prompt>> FindPrompts(const GenerateConfig& config,
                                                const Tokenizer* tokenizer, int64_t vocab_size) {
  if (tokenizer == nullptr) {
    STRAKE_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                            ParseTokens(config.prompt_tokens, vocab_size));
    return std::vector<Prompt>{{.tokens = std::move(tokens)}};
  }
  std::vector<std::string> texts = {config.prompt};
  if (!config.prompts.empty()) {
    STRAKE_ASSIGN_OR_RETURN(texts, NameError("--prompts", ReadPrompts(config.prompts)));
  }
  WordCache cache;
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) prompts.push_back(EncodePrompt(*tokenizer, text, &cache));
  return prompts;
}

// "--prompt", or where there are several the file and the prompt's number.
std::string NameOfPrompt(const GenerateConfig& config, size_t i) {
  if (!config.prompt_tokens.empty()) return "--prompt_tokens";
  if (config.prompts.empty()) return "--prompt";
  return absl::StrCat("--prompts: ", config.prompts, ": prompt ", i + 1);
}

absl::Status CheckPrompts(const GenerateConfig& config, const ModelConfig& model,
                          const std::vector<Prompt>& prompts) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t size = prompts[i].tokens.size();
    const std::string name = NameOfPrompt(config, i);
    if (size == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is empty; give at least one character"));
    }
    if (size <= model.max_positions) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        name, " has ", size, " tokens, more than the model's ", model.max_positions, " positions"));
  }
  return absl::OkStatus();
}

// What all ranks share.
struct Job {
  GivenCheckpoint checkpoint;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::vector<Prompt> prompts;
  GenerationOptions generation;
  std::optional<ChatEncoder> chat = {};  // with it, there are no prompts
  int64_t chat_tokens = 0;

  int64_t LongestPrompt() const {
    size_t longest = 0;
    for (const Prompt& prompt : prompts) longest = std::max(longest, prompt.tokens.size());
    return static_cast<int64_t>(longest);
  }
  int64_t Window() const {
    return GenerationWindow(
        checkpoint.model, chat.has_value() ? chat_tokens : LongestPrompt() + generation.max_tokens);
  }
  int64_t NumSequences() const {
    return chat.has_value() ? 1 : std::min<int64_t>(generation.batch, prompts.size());
  }
};

EngineOptions OptionsOf(const GenerateConfig& config, const Job& job) {
  return {.model = job.checkpoint.model,
          .seq_len = job.Window(),
          .op_set = config.machine.op_set(),
          .dtype = config.machine.dtype_kind(),
          .device = config.machine.device_kind(),
          .pipeline = PipelineOptionsOf(config.layout, /*num_micro_batches=*/1).value()};
}

// The bytes of weights, caches and tables of angles on a rank of a stage: what grows with the model
// and the number of tokens.
double StageBytes(const GenerateConfig& config, const Job& job, int stage) {
  const std::unique_ptr<InferenceModel> model =
      InferenceModel::DryRun(OptionsOf(config, job), config.layout.sizes(), stage);
  const ModelParts parts = model->parts();
  double per_token = 0;
  for (int i = 0; i < parts.size(); ++i) {
    const KvCache cache = KvCache::DryRun(parts.part(i), /*max_tokens=*/1);
    per_token += double(cache.num_bytes()) * double(job.NumSequences());
  }
  const RopeTables rope(job.checkpoint.model, job.Window());
  for (int i = 0; i < rope.size(); ++i) per_token += double(sizeof(double)) * rope.Columns(i);
  return double(model->parameters().values().num_bytes()) + per_token * double(job.Window());
}

absl::Status CheckGenerationMemory(const GenerateConfig& config, const Job& job) {
  const int64_t num_tokens = job.Window(), num_sequences = job.NumSequences();
  const double bytes =
      BytesOfRanks(config.layout.sizes(), NumRanksInMemory(config.machine, config.layout),
                   [&](int stage) { return StageBytes(config, job, stage); });
  STRAKE_ASSIGN_OR_RETURN(
      const AvailableMemory available,
      FindAvailableMemory(config.machine.device_kind(), CudaDeviceOf(config.layout)));
  if (bytes <= double(available.bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the model and ", num_sequences > 1 ? absl::StrCat(num_sequences, " times ") : "", num_tokens,
      " tokens need ", FormatBytes(bytes), available.of, " but ", FormatBytes(available.bytes),
      " are free; choose a smaller ", job.chat.has_value() ? "--chat_tokens" : "--max_tokens",
      num_sequences > 1 ? " or --batch" : "", ", or another --checkpoint"));
}

// How fast tokens come.
class Speed {
 public:
  void Count() {
    last_ = Clock::now();
    if (num_tokens_++ == 0) first_ = last_;
  }
  std::string ToString() const {
    const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
    const std::string first =
        absl::StrFormat("%d tokens, the first after %.3f s", num_tokens_, seconds(first_ - start_));
    if (num_tokens_ < 2) return first;
    return absl::StrFormat("%s, then %.1f tokens/s", first,
                           (num_tokens_ - 1) / seconds(last_ - first_));
  }

 private:
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point first_ = start_, last_ = start_;
  int64_t num_tokens_ = 0;
};

// Shows on stderr how far the work is, so that stdout is the text alone. They may be one terminal,
// and no bar is drawn behind a text that has begun.
class TextWithProgress {
 public:
  TextWithProgress(const Job& job, bool json, Progress* screen)
      : text_(job.prompts, job.tokenizer.get(),
              {.json = json, .terminal = isatty(STDOUT_FILENO) != 0}, &std::cout),
        streams_(job.prompts.size() == 1 && !json),
        max_tokens_(job.generation.max_tokens),
        num_tokens_(job.prompts.size()),
        screen_(screen) {
    if (streams_) {
      screen->Work({.what = "reading the prompt"});
    } else {
      Show();
    }
  }

  absl::Status Add(const GeneratedToken& token) {
    if (std::exchange(begins_, false)) {
      if (streams_) screen_->EndWork();
      STRAKE_RETURN_IF_ERROR(text_.Begin());
    }
    speed_.Count();
    if (streams_) return text_.Add(token);
    const int64_t count = ++num_tokens_[token.prompt];
    num_done_ += token.is_last ? max_tokens_ - count + 1 : 1;
    Show();
    absl::Status added;
    const auto add = [&] { added = text_.Add(token); };
    token.is_last ? screen_->WithoutBar(add) : add();
    return added;
  }

  absl::Status End() {
    screen_->EndWork();
    return begins_ ? absl::OkStatus() : text_.End();
  }
  std::string SpeedText() const { return speed_.ToString(); }

 private:
  // A prompt that ends early has none of its other tokens to wait for.
  void Show() {
    screen_->Work({.what = "generating",
                   .done = static_cast<double>(num_done_),
                   .total = static_cast<double>(max_tokens_) * double(num_tokens_.size()),
                   .unit = WorkUnit::kCount});
  }

  GeneratedText text_;
  const bool streams_;
  const int64_t max_tokens_;
  std::vector<int64_t> num_tokens_;  // by prompt
  Progress* const screen_;
  Speed speed_;
  int64_t num_done_ = 0;
  bool begins_ = true;
};

// Prints on the one rank that has a screen; all ranks generate the same tokens.
absl::Status GenerateAndPrint(const Context& ctx, const ModelParts& model, const Job& job,
                              bool json, Progress* screen) {
  std::vector<std::vector<int32_t>> prompts;
  for (const Prompt& prompt : job.prompts) prompts.push_back(prompt.tokens);
  if (screen == nullptr) {
    return GenerateAll(ctx, model, prompts, job.generation,
                       [](const GeneratedToken&) { return absl::OkStatus(); });
  }
  TextWithProgress text(job, json, screen);
  const absl::Status status =
      GenerateAll(ctx, model, prompts, job.generation,
                  [&](const GeneratedToken& token) { return text.Add(token); });
  const absl::Status ended = text.End();
  STRAKE_RETURN_IF_ERROR(status);
  screen->PrintProgress(text.SpeedText());
  return ended;
}

// The model of a rank, and what computes it.
struct RankModel {
  const MachineConfig& machine;
  ThreadTeam* team;
  CudaContext* cuda;
  ModelParts model;

  // Calls `generate` with the memory that continuing prompts of these lengths takes.
  absl::Status WithContext(absl::Span<const int64_t> lengths, const GenerationOptions& options,
                           absl::FunctionRef<absl::Status(const Context&)> generate) const {
    ActivationArena plan = ActivationArena::DryRun(machine.device_kind());
    const OpSet op_set = machine.op_set();
    const size_t bytes = GenerationBytes(Context(team, &plan, op_set), model, lengths, options);
    STRAKE_ASSIGN_OR_RETURN(ActivationArena arena,
                            ActivationArena::Create(bytes, machine.device_kind()));
    Context ctx(team, &arena, op_set);
    ctx.set_cuda(cuda);
    return generate(ctx);
  }
};

absl::Status ConverseAndPrint(const Job& job, const GenerateConfig& config, const RankModel& rank,
                              Progress* screen) {
  const ConverseOptions options = {.encoder = &*job.chat,
                                   .tokenizer = job.tokenizer.get(),
                                   .system = config.system,
                                   .max_tokens = job.generation.max_tokens,
                                   .max_context_tokens = job.Window(),
                                   .seed = job.generation.sampling.seed,
                                   .terminal = isatty(STDOUT_FILENO) != 0};
  const auto generate = [&](const std::vector<int32_t>& prompt, int64_t max_tokens, uint64_t seed,
                            absl::FunctionRef<absl::Status(const GeneratedToken&)> on_token) {
    GenerationOptions generation = job.generation;
    generation.max_tokens = max_tokens;
    generation.sampling.seed = seed;
    const int64_t length = prompt.size();
    // A person has ended the line with the message, so that there is one for a bar.
    if (isatty(STDIN_FILENO) != 0) screen->Work({.what = "reading the conversation"});
    const auto end_work_and_tell = [&](const GeneratedToken& token) {
      screen->EndWork();
      return on_token(token);
    };
    return rank.WithContext({length}, generation, [&](const Context& ctx) {
      return GenerateAll(ctx, rank.model, {prompt}, generation, end_work_and_tell);
    });
  };
  return Converse(options, generate, &std::cin, &std::cout);
}

// `screen` is the first rank's, and null on others.
absl::Status GenerateOnRank(const GenerateConfig& config, const Job& job, const Mesh& mesh,
                            Progress* screen) {
  const Device device = config.machine.device_kind();
  std::unique_ptr<CudaContext> cuda;
  if (device == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(cuda,
                            CudaContext::Create(CudaDeviceOf(config.layout), ProductTunings()));
    mesh.BindCudaStream(cuda->stream());
  }
  ThreadTeam team(static_cast<int>(config.machine.threads));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<InferenceModel> model,
                          InferenceModel::Create(OptionsOf(config, job), mesh));
  STRAKE_RETURN_IF_ERROR(NameError(
      "--checkpoint", LoadModel(job.checkpoint.files, job.checkpoint.model, model->parameters(),
                                screen == nullptr ? nullptr : screen->Teller())));
  if (screen != nullptr) screen->EndWork();
  const RankModel rank = {config.machine, &team, cuda.get(), model->parts()};
  if (job.chat.has_value()) return ConverseAndPrint(job, config, rank, screen);
  std::vector<int64_t> lengths;
  for (const Prompt& prompt : job.prompts) lengths.push_back(prompt.tokens.size());
  return rank.WithContext(lengths, job.generation, [&](const Context& ctx) {
    return GenerateAndPrint(ctx, rank.model, job, config.json, screen);
  });
}

// As templates write it: "26 Jul 2024".
std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  localtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%d %b %Y", &parts)};
}

absl::StatusOr<ChatEncoder> MakeChatEncoder(const GenerateConfig& config, const Job& job) {
  STRAKE_ASSIGN_OR_RETURN(const std::string folder,
                          NameError("--checkpoint", ChatTemplateFolder(job.checkpoint)));
  const auto format =
      config.chat_format.empty() ? ChatFormatOfModel(folder) : FindChatFormat(config.chat_format);
  STRAKE_ASSIGN_OR_RETURN(const ChatFormat* const found, NameError("--chat_format", format));
  return NameError("--chat_format", ChatEncoder::Create(found, job.tokenizer.get(), Today()));
}

// Answers end with the format's token too.
absl::Status PrepareChat(const GenerateConfig& config, Job* job) {
  STRAKE_ASSIGN_OR_RETURN(job->chat, MakeChatEncoder(config, *job));
  job->chat_tokens = config.chat_tokens;
  if (!config.ignore_eos) job->generation.end_tokens.push_back(*job->chat->end_token());
  return absl::OkStatus();
}

absl::StatusOr<Job> MakeJob(const GenerateConfig& config, const OnWork& on_work) {
  Job job;
  STRAKE_ASSIGN_OR_RETURN(job.checkpoint,
                          ReadCheckpointFlag(config.checkpoint, config.base_model, on_work));
  const int64_t vocab_size = job.checkpoint.model.vocab_size;
  if (config.prompt_tokens.empty()) {
    STRAKE_ASSIGN_OR_RETURN(job.tokenizer, FindTokenizer(config, job.checkpoint));
  }
  if (!config.chat) {
    STRAKE_ASSIGN_OR_RETURN(job.prompts, FindPrompts(config, job.tokenizer.get(), vocab_size));
    STRAKE_RETURN_IF_ERROR(CheckPrompts(config, job.checkpoint.model, job.prompts));
  }
  job.generation = {.max_tokens = config.max_tokens,
                    .sampling = config.sampling,
                    .batch = static_cast<int>(config.batch)};
  job.generation.sampling.seed = config.seed;
  if (!config.ignore_eos) {
    STRAKE_ASSIGN_OR_RETURN(
        job.generation.end_tokens,
        NameError("--checkpoint",
                  ReadEndTokens(job.checkpoint.files.FolderWith("generation_config.json"),
                                job.tokenizer.get(), vocab_size)));
  }
  if (config.chat) STRAKE_RETURN_IF_ERROR(PrepareChat(config, &job));
  return job;
}

// Flags that say something of --chat alone, and what it does not go with.
absl::Status CheckChatFlags(const GenerateConfig& config, const OptionSet& options) {
  const auto first_of = [&](const std::vector<const char*>& names) {
    const auto set = std::find_if(names.begin(), names.end(),
                                  [&](const char* name) { return options.IsSet(name); });
    return set == names.end() ? std::string() : absl::StrCat("--", *set);
  };
  if (!config.chat) {
    const std::string flag = first_of({"chat_format", "system", "chat_tokens"});
    if (flag.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(flag, " says how to converse: give --chat too"));
  }
  const std::string flag = first_of({"prompt", "prompt_tokens", "prompts", "json", "batch"});
  if (!flag.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        flag, " does not go with --chat, whose messages are the standard input's lines"));
  }
  if (config.layout.num_ranks() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--chat converses on one rank, and ",
                                                 config.layout.SizesText(), " are ",
                                                 config.layout.num_ranks()));
}

// Token numbers count before a text; a file of prompts excludes both.
absl::Status CheckPromptFlags(const GenerateConfig& config, const OptionSet& options) {
  std::vector<std::string> given;
  for (const char* name : {"prompt", "prompt_tokens", "prompts"}) {
    if (options.IsSet(name)) given.push_back(absl::StrCat("--", name));
  }
  if (config.prompts.empty() || given.size() < 2) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("give only one of ", absl::StrJoin(given, ", ")));
}

absl::Status Generate(int argc, char** argv) {
  ChangeToUserDirectory();
  GenerateConfig config;
  OptionSet options("generate");
  AddGenerateOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(CheckPromptFlags(config, options));
  STRAKE_RETURN_IF_ERROR(CheckChatFlags(config, options));
  STRAKE_RETURN_IF_ERROR(CheckProcesses(config.layout));
  STRAKE_RETURN_IF_ERROR(ResolveMachine(config.layout, &config.machine));
  WorkScreen screen(STDERR_FILENO, config.quiet);
  STRAKE_ASSIGN_OR_RETURN(const Job job, MakeJob(config, screen->Teller()));
  STRAKE_RETURN_IF_ERROR(CheckTensorParallelSize(config.layout, job.checkpoint.model));
  STRAKE_RETURN_IF_ERROR(CheckStages(config.layout, job.checkpoint.model, /*num_micro_batches=*/1));
  STRAKE_RETURN_IF_ERROR(CheckGenerationMemory(config, job));
  return RunOnRanks(config.layout, [&](const Mesh& mesh) {
    return GenerateOnRank(config, job, mesh, mesh.rank() == 0 ? &*screen : nullptr);
  });
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Generate); }
