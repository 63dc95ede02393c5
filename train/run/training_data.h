// TrainingData: the token streams of a run, one or one of each source, split into training and
// validation data.
#ifndef STRAKE_TRAIN_RUN_TRAINING_DATA_H_
#define STRAKE_TRAIN_RUN_TRAINING_DATA_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/thread_team.h"
#include "data/blend_loader.h"
#include "data/data_loader.h"
#include "data/document_index.h"
#include "data/document_list.h"
#include "data/target_ranges.h"
#include "data/token_batch.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"
#include "data/tokenizer/tokenizer.h"
#include "data/train_val_split.h"
#include "train/run/trainer_options.h"

namespace strake {

// Data with a validation loss of its own.
struct ValidationData {
  std::string name = {};                   // of ValidationSet, or of the source
  std::optional<TokenStream> stream = {};  // none: held back of the training data
  int source = 0;                          // of which, if so
  std::optional<DataLoader> loader = {};
  // Until the loader is made; of what is held back, none:
  std::vector<FileDocuments> documents = {};
  std::optional<TargetRanges> targets = {};
};

// What is known of a run's files when they are opened.
struct DataOrigin {
  DataRules rules = DataRules::kDocuments;  // that the run began with
  // Of the tokens; it must outlive the data. Null: a model of bytes, or it is not known.
  const Tokenizer* tokenizer = nullptr;
  bool prepared = false;   // whether training files were made of text for this run
  std::string label = {};  // Label() of that text; "": of the files
};

class TrainingData {
 public:
  // Opens the options' files. An error names option, file and figures: for files that cannot be
  // read, that are neither text nor tokens, or text where the model is none of bytes; conversations
  // and other text in one list, or without a token to learn; tokens
  // outside the model's vocabulary, or made by another tokenizer; too few tokens for one sequence;
  // and a line of skip_data that names no document of the training data, or all that there is.
  static absl::StatusOr<std::unique_ptr<TrainingData>> Open(const TrainerOptions& options,
                                                            const DataOrigin& origin = {});

  const BlendLoader& train_loader() const { return *train_loader_; }
  // The names of the training data's sources; empty where there are none.
  const std::vector<std::string>& source_names() const { return source_names_; }
  // One or more. What is held back, of each source by itself, is in the order of the stream where
  // it is its end, and otherwise shuffled, so that any part of it is of all files.
  const std::vector<ValidationData>& validation() const { return validation_; }
  // The training tokens of a source, or of all.
  const TokenStream& train_stream(int source = 0) const { return *train_[source].stream; }
  // The training tokens that options.skip_data leaves out.
  int64_t num_skipped_tokens() const;
  // Null where the model's tokens are bytes, or it is not known.
  const Tokenizer* tokenizer() const { return tokenizer_; }
  // Of the training data: options.documents, and kMask where that is kConcat and all are
  // conversations. It identifies the run.
  DocumentMode documents() const;
  // Whether any samples, of training or validation, have documents: conversations do, and text
  // where options.documents says so.
  bool has_documents() const;
  // Of a source; without sources, of all.
  const TrainValSplit& split(int source = 0) const { return train_[source].split; }
  // The passes over a source, or over all, that the options' steps make in all.
  double Epochs(const TrainerOptions& options, int source) const;
  int64_t num_train_tokens() const;
  int64_t num_val_tokens() const;
  // The rules that a later run needs to read the same data.
  DataRules rules() const { return rules_; }

  // What is legal, but probably not intended: files of the options that are used for both training
  // and validation, or in two sources, so that the validation loss is misleading.
  static std::vector<std::string> WarningsOfFiles(const TrainerOptions& options);
  // Text that is read as bytes for a model of words; conversations that are left out.
  std::vector<std::string> Warnings() const;
  // What options.skip_data and options.truncate leave out.
  const std::vector<std::string>& notes() const { return notes_; }

  // Whether the model's tokens are the bytes of text.
  bool is_of_bytes() const;
  // Whether ToText() gives text.
  bool has_text() const { return is_text() || is_of_bytes() || tokenizer_ != nullptr; }

  // The file's name, or the number of files or sources: as they were given.
  std::string Label() const { return label_; }
  // "books.txt: 1.20M tokens to train on, 10.5k to validate on".
  std::string Summary() const;
  static std::string LabelOf(const TrainerOptions& options);

  // Identifies the training tokens, to tell runs apart: 32 digits of all tokens, or 16 of samples
  // where there are more than options.data_fingerprint_tokens; then which of them are trained on,
  // and of documents where they begin and what of them is learnt. This for each source, "; "
  // between them. Reads what it hashes.
  std::string Fingerprint(ThreadTeam& team) const;
  // The same, of as many tokens as `recorded` is, a result of it in another run or version.
  std::string FingerprintLike(const std::string& recorded, ThreadTeam& team) const;
  // When the newest training file was changed, in seconds since 1970; 0 where Fingerprint() is of
  // all tokens. A copy of a file may have another time.
  int64_t TimeOfSampledFiles() const;

  // The first tokens of the first validation data, at most `count`.
  absl::StatusOr<std::vector<int32_t>> FirstValTokens(int64_t count) const;
  // Formats tokens, which follow `before`, for the screen: as text where that is known, as numbers
  // otherwise.
  std::string ToText(const std::vector<int32_t>& tokens,
                     const std::vector<int32_t>& before = {}) const;
  // The bytes of the text whose tokens are the targets of the first samples of some validation
  // data; 0 where that is not known.
  absl::StatusOr<int64_t> NumTargetBytes(const ValidationData& validation,
                                         int64_t num_samples) const;

 private:
  // Training files that are shuffled and repeated together: all, or those of a source.
  struct TrainPart {
    std::string option = {};  // and source, for errors
    std::vector<std::string> files = {};
    std::optional<TokenStream> stream = {};
    std::vector<FileDocuments> documents = {};  // until the loaders are made
    std::optional<TargetRanges> targets = {};   // likewise; of conversations
    TrainValSplit split = {};
    int64_t num_skipped = 0;  // tokens of the training data that are left out
  };

  TrainingData() = default;
  bool is_text() const;
  absl::Status OpenStreams(const TrainerOptions& options);
  absl::StatusOr<std::vector<FileDocuments>> ReadDocuments(const TokenStream& stream,
                                                           bool read_indices);
  static absl::StatusOr<std::optional<TargetRanges>> ReadTargets(
      const TokenStream& stream, std::vector<FileDocuments>* documents);
  absl::Status CheckTokenizer(const std::string& path, const DocumentIndex& index);
  absl::Status OpenTrainParts(const TrainerOptions& options);
  absl::Status Split(const TrainerOptions& options);
  absl::Status SplitPart(const TrainerOptions& options, TrainPart* part) const;
  absl::Status SkipDocuments(const TrainerOptions& options);
  absl::Status SkipDocumentsOf(const std::vector<ListedDocument>& list, std::vector<bool>* found,
                               TrainPart* part);
  void NoteHeldBack(const std::vector<TokenRange>& listed, const TrainPart& part);
  // What a loader is made of.
  struct LoaderData {
    std::string name = {};  // of option and files, for errors
    const TokenStream& stream;
    const TokenRanges& ranges;
    const std::vector<FileDocuments>& documents;
    const std::optional<TargetRanges>& targets;
  };
  DocumentMode ModeOf(const std::optional<TargetRanges>& targets) const;
  bool IsStream(const std::optional<TargetRanges>& targets) const;
  absl::StatusOr<std::vector<int64_t>> DocumentBegins(const LoaderData& data) const;
  absl::Status CheckLengths(const LoaderData& data, const std::vector<int64_t>& begins,
                            int64_t seq_len) const;
  void NoteCut(const LoaderData& data, const std::vector<int64_t>& begins, int64_t seq_len);
  absl::StatusOr<DataLoader> MakeLoader(const LoaderData& data, DataLoader::Options options);
  absl::Status MakeLoaders(const TrainerOptions& options);
  absl::Status MakeHeldBackLoaders(const TrainerOptions& options);
  absl::Status MakeTrainLoader(const TrainerOptions& options);
  bool all_tokens_count() const;
  std::string FingerprintOf(bool all_tokens, ThreadTeam& team) const;

  DataRules rules_ = DataRules::kDocuments;
  const Tokenizer* tokenizer_ = nullptr;
  DocumentMode documents_ = DocumentMode::kConcat;
  bool truncate_ = false;
  std::vector<std::string> warnings_, notes_;
  std::string tokenizer_hash_;  // of all files that say theirs
  std::string tokenizer_of_;    // whose that is, for errors
  bool prepared_ = false;
  std::string label_;
  int64_t max_fingerprint_tokens_ = 0;
  OptionNames names_;
  int64_t vocab_size_ = 0;
  std::vector<std::string> source_names_;
  std::vector<TrainPart> train_;  // one, or one of each source
  std::optional<BlendLoader> train_loader_;
  std::vector<ValidationData> validation_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_TRAINING_DATA_H_
