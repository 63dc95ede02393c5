#include "tools/evaluating/evaluate_config.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor.h"
#include "tools/cli/checkpoint_flags.h"
#include "tools/cli/work_screen.h"

namespace strake {
namespace {

constexpr int64_t kDefaultSeqLen = 1024;
// Inputs of a pass where --micro_batch is open: enough for fast products, little memory.
constexpr int64_t kCpuPassTokens = 2048, kCudaPassTokens = 16384;
constexpr double kMaxMicroBatch = 1e6, kMaxSeqLen = 1e9;

}  // namespace

void AddEvaluateOptions(EvaluateConfig* c, OptionSet* options) {
  options->Add("checkpoint", &c->checkpoint,
               "checkpoint, a model directory in the Hugging Face layout, or the --out of a run, "
               "whose last checkpoint is taken; or an adapter of PEFT");
  options->Add("base_model", &c->base_model, kBaseModelHelp);
  options->Add("data", &c->data,
               "comma-separated files, folders and globs: text (*.txt, *.md, ...), JSON lines with "
               "a member --text_field (*.jsonl), each also as .gz and .zst, and files of tokens "
               "(*.bin), for loss, perplexity and bits per byte; files of questions as in "
               "--eval_tasks");
  options->Add("eval_tasks", &c->eval_tasks,
               "comma-separated files of multiple-choice questions, for accuracy: JSON lines with "
               "\"context\", \"choices\" and \"answer\", and llm.c's hellaswag_val.bin");
  options->Add("seq_len", &c->seq_len,
               "tokens per sequence; 0: the model's positions, at most 1024. Questions take the "
               "model's positions in any case",
               Range::Between(0, kMaxSeqLen));
  options->Add("stride", &c->stride,
               "tokens from one window of --seq_len to the next, so that each token is predicted "
               "from at least --seq_len - --stride others; 0: blocks of --seq_len",
               Range::Between(0, kMaxSeqLen));
  options->Add("micro_batch", &c->micro_batch,
               "sequences of --seq_len per pass and data-parallel rank; 0: as many as are fast",
               Range::Between(0, kMaxMicroBatch));
  options->Add(
      "tokenizer", &c->tokenizer,
      "tokenizer's file or folder; by default the checkpoint's, and bytes for a vocabulary "
      "of 256 without one");
  options->Add("tokenizer_pattern", &c->tokenizer_pattern,
               "regular expression that splits text, for tiktoken's ranks of an unknown model");
  options->Add("special_tokens", &c->special_tokens,
               "put the tokens around a text that the tokenizer's post-processor does, such as "
               "begin-of-text");
  options->Add("text_field", &c->text_field, "member of JSON lines that is the text");
  options->Add("delimiter", &c->delimiter, "text between the context and a choice");
  options->Add("json", &c->json, "print one JSON object instead of lines");
  options->Add("items", &c->items, "with --json, also print each question's log-likelihoods");
  AddQuietOption(&c->quiet, options);
  AddMachineOptions(&c->machine, options);
  AddLayoutOptions(&c->layout, options);
  AddStageLayersOption(&c->layout, options);
  options->Paths({"checkpoint", "base_model", "tokenizer"});
  options->PathLists({"data", "eval_tasks"});
}

absl::Status ResolveEvaluateConfig(const ModelConfig& model, EvaluateConfig* c) {
  if (c->data.empty() && c->eval_tasks.empty()) {
    return absl::InvalidArgumentError(
        "there is nothing to evaluate; give --data=FILES, or --eval_tasks=FILES of questions");
  }
  if (c->items && !c->json) {
    return absl::InvalidArgumentError("--items is a part of the JSON output; give --json too");
  }
  if (c->seq_len == 0) c->seq_len = std::min(kDefaultSeqLen, model.max_positions);
  STRAKE_RETURN_IF_ERROR(CheckSeqLenFlag(model, c->seq_len));
  if (c->stride >= c->seq_len) {
    return absl::InvalidArgumentError(
        absl::StrCat("--stride=", c->stride, " is not below --seq_len=", c->seq_len,
                     "; tokens would be left out. Without --stride, blocks follow one another"));
  }
  if (c->micro_batch > 0) return absl::OkStatus();
  const int64_t pass = c->machine.device_kind() == Device::kCuda ? kCudaPassTokens : kCpuPassTokens;
  c->micro_batch = std::max<int64_t>(1, pass / c->seq_len);
  return absl::OkStatus();
}

}  // namespace strake
