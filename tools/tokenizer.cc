// Text to tokens and back, and vocabularies: `bazel run //tools:tokenizer -- --help`.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "tools/tokenizing/encode_stream.h"
#include "tools/tokenizing/train_tokenizer.h"

namespace strake {
namespace {

struct TokenizerConfig {
  std::string mode = "encode";
  std::string tokenizer;
  TrainTokenizerConfig train = {.threads = 0};
};

void AddTokenizerOptions(TokenizerConfig* c, OptionSet* options) {
  options->Add(
      "mode", &c->mode,
      "encode: text from stdin to ids on stdout, decimal, one a line; decode: the reverse; "
      "train: a byte-level vocabulary from --train_data",
      {"encode", "decode", "train"});
  options->Add("threads", &c->train.threads, "threads of encode and train; 0: one per core",
               Range::Between(0, 4096));
  options->ShowDefault("threads", absl::StrCat(NumUsableCores()));
  options->Add(
      "tokenizer_pattern", &c->train.tokenizer_pattern,
      "regular expression that cuts text into words; train: ByteLevel's where empty; encode: "
      "needed for tiktoken's ranks that are not known");
  options->Group("Encode and decode");
  options->Add("tokenizer", &c->tokenizer,
               "a model's folder, tokenizer.json, vocab.json, tekken.json, SentencePiece's or "
               "tiktoken's file");
  options->Group("Train");
  options->Add(
      "train_data", &c->train.train_data,
      "comma-separated list of text files, folders and globs: text and .jsonl, also .gz and "
      ".zst; -: stdin");
  options->Add("text_field", &c->train.text_field, "member of JSON lines that is the text");
  options->Add("vocab_size", &c->train.vocab_size,
               "tokens of the vocabulary, the 256 bytes and special tokens included",
               Range::AtLeast(256));
  options->Add("special_tokens", &c->train.special_tokens,
               "comma-separated list of tokens that are no text; the first one ends a text");
  options->Add("min_frequency", &c->train.min_frequency,
               "pairs that occur less often do not become tokens", Range::Between(1, 1e15));
  options->Add("out", &c->train.out, "folder to write tokenizer.json and tokenizer_config.json to");
  AddQuietOption(&c->train.quiet, options);
  options->Paths({"tokenizer", "out"});
  options->PathLists({"train_data"});
}

// A flag that another mode reads would be ignored without a word.
absl::Status CheckFlagsOfMode(const std::string& mode, const OptionSet& options) {
  std::vector<std::string> allowed = {"mode", "threads", "tokenizer_pattern"};
  if (mode == "train") {
    for (const char* name : {"train_data", "text_field", "vocab_size", "special_tokens",
                             "min_frequency", "out", "quiet"}) {
      allowed.push_back(name);
    }
  } else {
    allowed.push_back("tokenizer");
  }
  std::vector<std::string> names = options.NamesSet();
  if (options.IsSet("quiet")) names.push_back("quiet");  // no setting, so that it is not listed
  for (const std::string& name : names) {
    if (std::find(allowed.begin(), allowed.end(), name) != allowed.end()) continue;
    return absl::InvalidArgumentError(absl::StrCat("--mode=", mode, " does not take --", name));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> TokenizerOfFlag(const TokenizerConfig& config) {
  if (config.tokenizer.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokenizer is missing; --mode=", config.mode, " needs it"));
  }
  return NameError("--tokenizer",
                   OpenTokenizer(config.tokenizer, {.pattern = config.train.tokenizer_pattern}));
}

absl::Status Run(int argc, char** argv) {
  ChangeToUserDirectory();
  TokenizerConfig config;
  OptionSet options("tokenizer");
  AddTokenizerOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(CheckFlagsOfMode(config.mode, options));
  if (config.train.threads == 0) config.train.threads = NumUsableCores();
  if (config.mode == "train") {
    STRAKE_RETURN_IF_ERROR(TrainTokenizer(config.train));
    return FlushStdout();
  }
  STRAKE_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOfFlag(config));
  if (config.mode == "decode") return DecodeStream(*tokenizer, STDIN_FILENO, STDOUT_FILENO);
  return EncodeStream(*tokenizer, static_cast<int>(config.train.threads), STDIN_FILENO,
                      STDOUT_FILENO);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Run); }
