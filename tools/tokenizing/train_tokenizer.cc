#include "tools/tokenizing/train_tokenizer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/durable_file.h"
#include "core/base/format_quantity.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "data/text/document_reader.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "data/tokenizer/training/bpe_trainer.h"
#include "data/tokenizer/training/word_counts.h"
#include "data/tokenizer/words/splitter.h"
#include "tools/cli/options.h"
#include "tools/cli/progress.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"

namespace strake {
namespace {

// The documents of all files, one after the other.
class FilesReader {
 public:
  FilesReader(std::vector<std::string> files, DocumentOptions options, Progress* progress)
      : files_(std::move(files)), options_(std::move(options)), progress_(progress) {
    for (const std::string& file : files_) {
      struct stat info;
      if (file != "-" && stat(file.c_str(), &info) == 0) bytes_in_all_ += info.st_size;
    }
  }

  absl::StatusOr<bool> Next(TextPart* part) {
    while (true) {
      if (!reader_ && next_file_ == files_.size()) return false;
      if (!reader_) {
        STRAKE_ASSIGN_OR_RETURN(reader_, DocumentReader::Open(files_[next_file_++], options_));
      }
      DocumentPart document;
      STRAKE_ASSIGN_OR_RETURN(const bool more, reader_->Next(&document));
      ShowProgress();
      if (more) {
        num_text_bytes_ += document.text.size();
        *part = {document.text, document.ends_document};
        return true;
      }
      bytes_of_read_files_ += reader_->bytes_read();
      reader_ = nullptr;
    }
  }

  int64_t num_text_bytes() const { return num_text_bytes_; }

 private:
  void ShowProgress() {
    const double bytes = double(bytes_of_read_files_ + reader_->bytes_read());
    progress_->Work({.what = "counting words",
                     .done = bytes,
                     .total = double(bytes_in_all_),
                     .unit = WorkUnit::kBytes});
  }

  const std::vector<std::string> files_;
  const DocumentOptions options_;
  Progress* const progress_;
  std::unique_ptr<DocumentReader> reader_;
  size_t next_file_ = 0;
  int64_t bytes_in_all_ = 0, bytes_of_read_files_ = 0, num_text_bytes_ = 0;
};

absl::Status CheckFlags(const TrainTokenizerConfig& config) {
  for (const auto& [flag, value] :
       {std::pair("--train_data", &config.train_data), std::pair("--out", &config.out)}) {
    if (value->empty()) {
      return absl::InvalidArgumentError(absl::StrCat(flag, " is missing; --mode=train needs it"));
    }
  }
  if (config.vocab_size == 0) {
    return absl::InvalidArgumentError("--vocab_size is missing; --mode=train needs it");
  }
  if (!HoldsTokenizer(config.out)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("--out=", config.out, ": holds a tokenizer already; name another folder"));
}

absl::StatusOr<BpeTrainerOptions> TrainerOptionsOf(const TrainTokenizerConfig& config,
                                                   Progress* progress) {
  BpeTrainerOptions options = {.vocab_size = config.vocab_size,
                               .min_frequency = config.min_frequency};
  if (!config.special_tokens.empty()) {
    options.special_tokens = absl::StrSplit(config.special_tokens, ',');
  }
  options.on_progress = [progress, size = config.vocab_size](int64_t num_tokens) {
    progress->Work({.what = "merging pairs",
                    .done = double(num_tokens),
                    .total = double(size),
                    .unit = WorkUnit::kCount});
  };
  const absl::Status status = CheckBpeTrainerOptions(options);
  if (!status.ok()) return NameError("--vocab_size, --special_tokens", status);
  return options;
}

PreTokenizer PreTokenizerOf(const std::string& pattern) {
  if (pattern.empty()) return {.kind = PreTokenizer::Kind::kByteLevel, .use_regex = true};
  return {.kind = PreTokenizer::Kind::kSplit, .pattern = pattern};
}

// Checks early that the pattern can be written into a tokenizer.json.
absl::StatusOr<std::unique_ptr<const Splitter>> SplitterOf(const std::string& pattern) {
  const auto json = TokenizerJson({.pre_tokenizers = {PreTokenizerOf(pattern)}});
  auto splitter = MakeSplitter({pattern.empty() ? kByteLevelPattern : pattern});
  if (!splitter.ok()) return NameError("--tokenizer_pattern", splitter.status());
  if (!json.ok()) return NameError("--tokenizer_pattern", json.status());
  return splitter;
}

absl::StatusOr<std::vector<WordCount>> CountWordsOfFiles(const TrainTokenizerConfig& config,
                                                         Progress* progress) {
  STRAKE_ASSIGN_OR_RETURN(std::vector<std::string> files,
                          FilesOfFlag("--train_data", config.train_data));
  STRAKE_ASSIGN_OR_RETURN(const auto splitter, SplitterOf(config.tokenizer_pattern));
  FilesReader reader(std::move(files), {.field = config.text_field}, progress);
  auto words = CountWords(*splitter, static_cast<int>(config.threads),
                          [&](TextPart* part) { return reader.Next(part); });
  if (!words.ok()) return NameError("--train_data", words.status());
  progress->Print(absl::StrCat("text:       ", FormatBytes(double(reader.num_text_bytes())), ", ",
                               words->size(), " different words"));
  return words;
}

absl::Status WriteTokenizer(const TokenizerSpec& spec, const std::string& directory) {
  STRAKE_ASSIGN_OR_RETURN(const auto files, TokenizerFiles(spec));
  STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(directory));
  for (const auto& [name, contents] : files) {
    STRAKE_RETURN_IF_ERROR(WriteFileDurably(directory + "/" + name, contents));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TrainTokenizer(const TrainTokenizerConfig& config) {
  STRAKE_RETURN_IF_ERROR(CheckFlags(config));
  WorkScreen screen(STDOUT_FILENO, config.quiet);
  Progress& progress = *screen;
  STRAKE_ASSIGN_OR_RETURN(const BpeTrainerOptions options, TrainerOptionsOf(config, &progress));
  STRAKE_ASSIGN_OR_RETURN(const std::vector<WordCount> words, CountWordsOfFiles(config, &progress));
  STRAKE_ASSIGN_OR_RETURN(TokenizerSpec spec, TrainBpe(words, options));
  spec.pre_tokenizers = {PreTokenizerOf(config.tokenizer_pattern)};
  if (!spec.added.empty()) spec.end_of_text = spec.added[0].id;
  STRAKE_RETURN_IF_ERROR(WriteTokenizer(spec, config.out));
  progress.Erase();
  progress.Print(absl::StrCat("vocabulary: ", spec.tokens.size(), " tokens, ", spec.merges.size(),
                              " merges, in ", config.out));
  const int64_t num_missing = config.vocab_size - int64_t(spec.tokens.size());
  if (num_missing > 0) {
    progress.PrintNote(absl::StrCat("the text has no more pairs to merge; ", num_missing,
                                    " tokens fewer than --vocab_size=", config.vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace strake
