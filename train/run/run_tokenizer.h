// The tokenizer of a run: what encodes its text and decodes its samples.
#ifndef STRAKE_TRAIN_RUN_RUN_TOKENIZER_H_
#define STRAKE_TRAIN_RUN_RUN_TOKENIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "train/evaluation/choice_task.h"
#include "train/run/carried_files.h"
#include "train/run/trainer_options.h"

namespace strake {

struct RunTokenizer {
  std::unique_ptr<const Tokenizer> tokenizer;  // null: a model of bytes, or one without a tokenizer
  // Why a tokenizer that is there cannot be opened; nothing needs it unless text is encoded.
  absl::Status unusable = absl::OkStatus();
  // Where it was found, and a chat template may be; "": nowhere.
  std::string folder = {};
  std::vector<std::string> notes = {};
};

// Opens options.tokenizer, or where that is empty the tokenizer of the model's directory that the
// run begins from, or of `checkpoint`, which may be empty. Where options.tokenizer is gone, opens
// the one in `checkpoint`, with a note. A tokenizer of bytes counts as none: a model of bytes reads
// text as it is. An error names a tokenizer that was asked for and cannot be opened, and both sizes
// where it has more tokens than the model.
absl::StatusOr<RunTokenizer> OpenRunTokenizer(const TrainerOptions& options,
                                              const std::string& checkpoint);

// Whether each token is the byte of its number.
bool IsOfBytes(const Tokenizer& tokenizer);

// Opens options.eval_tasks for the run's model, by its tokenizer or, of a model of bytes, none. A
// task is called like its file, without .jsonl, .gz and .zst. An error names option, file and line,
// or two files of one name.
absl::StatusOr<std::vector<ChoiceTask>> OpenTasks(const TrainerOptions& options,
                                                  const RunTokenizer& tokenizer);

// The files that checkpoints of a run with options.tokenizer carry, so that other programs open it,
// too: those of its directory, or the file, with the merges of a vocabulary and the chat template
// beside it; and where there is no tokenizer.json, one that is equal, if that can be.
absl::StatusOr<CarriedFiles> ReadTokenizerFiles(const std::string& path,
                                                const Tokenizer& tokenizer);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_TOKENIZER_H_
