// Makes token files of a run's text, with its tokenizer, in a cache.
#ifndef STRAKE_TRAIN_RUN_PREPARED_DATA_H_
#define STRAKE_TRAIN_RUN_PREPARED_DATA_H_

#include <vector>

#include "absl/status/statusor.h"
#include "parallel/mesh/mesh.h"
#include "train/run/run_tokenizer.h"
#include "train/run/train_observer.h"
#include "train/run/trainer_options.h"

namespace strake {

// Replaces the text files of options->train_files, of each of its sources and of val_sets by token
// files, those first; returns whether there were any that are trained on. With a tokenizer, files
// whose names do not end in .bin are text. For a model of bytes those that are compressed or of
// JSON lines are; other text it reads as it is. With kBytesAndEnd, train_files stay as they are,
// and where all of them are text, so that the model reads them as bytes, it reads validation text
// as bytes, too.
//
// A file of JSON lines whose first object has "messages", or "prompt" and "completion", is of
// conversations (data/chat/chat_files.h): then all files of its list are that are no token files.
// options->chat_format becomes the format in which those to train on are written, or "".
//
// All ranks call it. The first one tells its observers of progress, and what it did. It prepares
// with all threads of the machine, below options->data_cache, which all must see; it alone has a
// tokenizer. The others wait and meet it meanwhile, or they would take it for lost. An error names
// option and file: text without a tokenizer, a file that is neither text nor tokens, and errors of
// OpenChatFiles() and PrepareTokens(). Where options->stop_requested() is true on any rank
// meanwhile, all ranks return Cancelled, and none has failed.
absl::StatusOr<bool> PrepareData(const Mesh& mesh, DataRules rules, const RunTokenizer& tokenizer,
                                 const std::vector<TrainObserver*>& observers,
                                 TrainerOptions* options);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_PREPARED_DATA_H_
