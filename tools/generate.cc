// Prints text from a checkpoint: `bazel run //tools:generate -- --help`.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/dtype.h"
#include "core/base/format_quantity.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "models/generator.h"
#include "models/rope_tables.h"
#include "models/transformer.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/tensor_parallel.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/run_on_ranks.h"
#include "tools/cli/user_paths.h"
#include "tools/gpu_tuning/product_tunings.h"
#include "train/plan/memory_plan.h"
#include "train/run/run_directory.h"

namespace strake {
namespace {

struct GenerateConfig {
  std::string checkpoint = "runs/llama-tiny";
  std::string prompt = "\n";
  std::string prompt_tokens;
  int64_t max_tokens = 500;
  int64_t seed = 1;
  MachineConfig machine;
  LayoutConfig layout;
  SamplingOptions sampling = {.temperature = 0.8};
};

constexpr int64_t kByteVocab = 256;

void AddGenerateOptions(GenerateConfig* c, OptionSet* options) {
  options->Add("checkpoint", &c->checkpoint,
               "checkpoint, a model directory in the Hugging Face layout, or the --out of a run, "
               "whose last checkpoint is taken");
  options->Add("prompt", &c->prompt, "text to continue, for models of bytes (vocabulary 256)");
  options->Add("prompt_tokens", &c->prompt_tokens,
               "comma-separated token numbers to continue, for other models, whose output is token "
               "numbers too");
  options->Add("max_tokens", &c->max_tokens, "tokens to generate", Range::Between(1, 1e9));
  options->Add("temperature", &c->sampling.temperature, "0: always the likeliest token",
               Range::Between(0, 1e6));
  options->Add("top_k", &c->sampling.top_k, "draw from the k likeliest tokens; 0: from all",
               Range::Between(0, 1e9));
  options->Add("top_p", &c->sampling.top_p,
               "draw from the likeliest tokens whose probabilities reach p", Range{0, 1, true});
  options->Add("seed", &c->seed, "seed of the sampling", Range::Between(0, 1e15));
  AddMachineOptions(&c->machine, options);
  AddLayoutOptions(&c->layout, options);
}

absl::StatusOr<std::string> FindModel(const std::string& path) {
  auto folder = FindModelFolder(path);
  if (folder.ok()) return folder;
  return absl::Status(folder.status().code(),
                      absl::StrCat("--checkpoint=", folder.status().message()));
}

absl::StatusOr<std::vector<int32_t>> PromptTokens(const GenerateConfig& config,
                                                  int64_t vocab_size) {
  std::vector<int32_t> tokens;
  if (config.prompt_tokens.empty()) {
    if (vocab_size != kByteVocab) {
      return absl::InvalidArgumentError(absl::StrCat("the model's vocabulary is ", vocab_size,
                                                     ", not bytes; give --prompt_tokens"));
    }
    if (config.prompt.empty()) {
      return absl::InvalidArgumentError("--prompt is empty; give at least one byte");
    }
    for (const char c : config.prompt) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  for (const absl::string_view word : absl::StrSplit(config.prompt_tokens, ',')) {
    int32_t token;
    if (!absl::SimpleAtoi(word, &token) || token < 0 || token >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--prompt_tokens: \"", word, "\" is not a token number from 0 to ", vocab_size - 1));
    }
    tokens.push_back(token);
  }
  return tokens;
}

// Checks weights, cache and position table: the parts that grow with the model and the number of
// tokens.
absl::Status CheckGenerationMemory(const GenerateConfig& config, const ModelConfig& c,
                                   int64_t num_tokens) {
  const double element = DTypeSize(config.machine.dtype_kind());
  double per_token = 2 * element * c.num_layers * c.num_kv_heads * c.head_dim;
  const RopeTables rope(c, num_tokens);
  for (int i = 0; i < rope.size(); ++i) per_token += 8.0 * rope.Columns(i);
  const double model_bytes = element * NumParameters(c) + per_token * num_tokens;
  const double bytes =
      model_bytes / config.layout.tp * NumRanksInMemory(config.machine, config.layout);
  STRAKE_ASSIGN_OR_RETURN(
      const AvailableMemory available,
      FindAvailableMemory(config.machine.device_kind(), CudaDeviceOf(config.layout)));
  if (bytes <= double(available.bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the model and ", num_tokens, " tokens need ", FormatBytes(bytes), available.of,
                   " but ", FormatBytes(available.bytes),
                   " are free; choose a smaller --max_tokens or another --checkpoint"));
}

// Prints tokens on the one rank that prints; all ranks generate the same ones.
class Printer {
 public:
  Printer(bool prints, bool text) : prints_(prints), text_(text) {}

  absl::Status Prompt(const std::string& prompt) const {
    if (prints_) std::cout << prompt;
    return Flush();
  }
  absl::Status Token(int64_t token) const {
    if (prints_ && text_) std::cout << static_cast<char>(token);
    if (prints_ && !text_) std::cout << "," << token;
    return Flush();
  }
  void End() const {
    if (prints_) std::cout << "\n";
  }

 private:
  absl::Status Flush() const {
    if (!prints_ || std::cout.flush()) return absl::OkStatus();
    return absl::UnavailableError("stdout was closed");
  }

  const bool prints_, text_;
};

absl::Status GenerateOnRank(const GenerateConfig& config, const ModelConfig& model_config,
                            const std::string& directory, absl::Span<const int32_t> prompt,
                            const Mesh& mesh) {
  const Device device = config.machine.device_kind();
  std::unique_ptr<CudaContext> cuda;
  if (device == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(cuda,
                            CudaContext::Create(CudaDeviceOf(config.layout), ProductTunings()));
    mesh.BindCudaStream(cuda->stream());
  }
  ThreadTeam team(static_cast<int>(config.machine.threads));
  ParameterArena parameters;
  Transformer model(model_config, GenerationWindow(model_config, prompt.size() + config.max_tokens),
                    &parameters, TensorParallel(mesh.communicator(MeshAxis::kTp)));
  STRAKE_RETURN_IF_ERROR(parameters.Allocate(config.machine.dtype_kind(),
                                             /*with_gradients=*/false, device));
  STRAKE_RETURN_IF_ERROR(model.PlaceTables());
  STRAKE_RETURN_IF_ERROR(LoadWeights(directory, *model.config().family, parameters));

  const OpSet op_set = config.machine.op_set();
  ActivationArena plan = ActivationArena::DryRun(device);
  const size_t bytes = GenerationBytes(Context(&team, &plan, op_set), model,
                                       static_cast<int64_t>(prompt.size()), config.max_tokens);
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(bytes, device));
  Context ctx(&team, &arena, op_set);
  ctx.set_cuda(cuda.get());
  const bool text = config.prompt_tokens.empty();
  const Printer printer(mesh.rank() == 0, text);
  STRAKE_RETURN_IF_ERROR(printer.Prompt(text ? config.prompt : config.prompt_tokens));
  const absl::Status status = GenerateTokens(ctx, model, prompt, config.max_tokens, config.sampling,
                                             [&](int64_t token) { return printer.Token(token); });
  printer.End();
  return status;
}

absl::Status Print(const GenerateConfig& config, const ModelConfig& model,
                   const std::string& directory) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                          PromptTokens(config, model.vocab_size));
  const int64_t num_prompt_tokens = prompt.size();
  if (num_prompt_tokens > model.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt's ", num_prompt_tokens,
                                                   " tokens are more than the model's ",
                                                   model.max_positions, " positions"));
  }
  STRAKE_RETURN_IF_ERROR(CheckTensorParallelSize(config.layout, model));
  STRAKE_RETURN_IF_ERROR(CheckGenerationMemory(
      config, model, GenerationWindow(model, num_prompt_tokens + config.max_tokens)));
  return RunOnRanks(config.layout, [&](const Mesh& mesh) {
    return GenerateOnRank(config, model, directory, prompt, mesh);
  });
}

absl::Status Generate(int argc, char** argv) {
  ChangeToUserDirectory();
  GenerateConfig config;
  OptionSet options("generate");
  AddGenerateOptions(&config, &options);
  const std::string help = options.Help();
  STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
  if (options.help_requested()) {
    std::cout << help;
    return FlushStdout();
  }
  config.sampling.seed = config.seed;
  STRAKE_RETURN_IF_ERROR(CheckProcesses(config.layout));
  STRAKE_RETURN_IF_ERROR(ResolveMachine(config.layout, &config.machine));
  STRAKE_ASSIGN_OR_RETURN(const std::string directory, FindModel(config.checkpoint));
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model,
                          ReadHfConfig(directory + "/config.json", /*notices=*/nullptr));
  return Print(config, model, directory);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::PrepareProcess();
  if (strake::HasVersionFlag(argc, argv)) return strake::PrintVersion();
  return strake::ExitCode(strake::Generate(argc, argv));
}
