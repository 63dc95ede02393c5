// ModelConfig: the shape of a GPT-2 or Llama model, from a preset or a Hugging Face `config.json`.
#ifndef STRAKE_MODELS_MODEL_CONFIG_H_
#define STRAKE_MODELS_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/dtype.h"
#include "core/ops/rope/rope.h"

namespace strake {

// kGpt2: learned positions, LayerNorm, GELU, biases (Radford et al., "Language Models are
// Unsupervised Multitask Learners", 2019, section 2.3). kLlama: RoPE, RMSNorm, SwiGLU, no biases,
// grouped key/value heads (Touvron et al., "LLaMA", 2023, section 2.2; Meta, "The Llama 3 Herd of
// Models", 2024, section 3.2).
enum class ModelFamily { kGpt2, kLlama };

struct ModelConfig {
  ModelFamily family = ModelFamily::kGpt2;
  int64_t vocab_size = 0;
  int64_t max_positions = 0;  // a hard limit for kGpt2, what it was made for in kLlama
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads; equal to it in kGpt2
  int64_t head_dim = 0;      // hidden_size / num_heads unless a Llama says otherwise
  int64_t intermediate_size = 0;
  double norm_eps = 1e-5;
  double initializer_range = 0.02;
  bool tie_word_embeddings = true;
  RopeConfig rope;  // kLlama

  // "bos_token_id" and the like with their JSON text: kept for whoever reads the checkpoint.
  std::vector<std::pair<std::string, std::string>> token_ids;

  bool operator==(const ModelConfig&) const = default;
};

// NotFound, listing the presets, for a name that is none of them.
absl::StatusOr<ModelConfig> ModelPreset(absl::string_view name);
std::vector<std::string> ModelPresetNames();

// Parses the text of a `config.json`; `source` is what errors call it. Sizes are required, other
// keys take transformers' defaults, and a value that Strake does not implement is an error. What is
// legal but not done (dropout) is added to `notices`. InvalidArgument, naming key and value, else.
absl::StatusOr<ModelConfig> ParseHfConfig(absl::string_view json, absl::string_view source,
                                          std::vector<std::string>* notices);

// Reads and parses a file.
absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& path,
                                         std::vector<std::string>* notices);

// What programs call --model: a path where it holds a '/' or ends in ".json", else a preset.
absl::StatusOr<ModelConfig> FindModelConfig(const std::string& model,
                                            std::vector<std::string>* notices);

// InvalidArgument where a sequence has more tokens than the model has positions (kGpt2).
absl::Status CheckSeqLen(const ModelConfig& config, int64_t seq_len);

// The `config.json` that transformers reads beside weights of that dtype: BF16 for bf16, else F32.
std::string ToHfConfig(const ModelConfig& config, DType dtype = DType::kF32);

// InvalidArgument where sizes are out of range or contradict each other.
absl::Status ValidateModelConfig(const ModelConfig& config);

// Parameters of the model, tied ones once.
int64_t NumParameters(const ModelConfig& config);

// Floating-point operations of a training step per token: 6 N + 6 L H D T, where N counts the
// parameters without position and untied input embeddings, and attention is causal (each pair
// of positions once).
double TrainingFlopsPerToken(const ModelConfig& config, int64_t seq_len);

}  // namespace strake

#endif  // STRAKE_MODELS_MODEL_CONFIG_H_
