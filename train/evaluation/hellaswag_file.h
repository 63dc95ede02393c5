// HellaSwagFile: llm.c's file of multiple-choice questions, hellaswag_val.bin, as a ChoiceTask.
//
//   header     256 int32: magic 20240522, version 1, number of examples, the longest example's
//              bytes, zeros
//   example    uint16: 65535, the example's bytes (all of these), its number from 0, the answer,
//   the
//              number C of choices, then the context and C choices: a number of tokens, and those
//
// Little-endian. Tokens are those of one vocabulary, of 50,257. acc_norm divides by the tokens of a
// choice, as llm.c does: the file has no text.
#ifndef STRAKE_TRAIN_EVALUATION_HELLASWAG_FILE_H_
#define STRAKE_TRAIN_EVALUATION_HELLASWAG_FILE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "train/evaluation/choice_task.h"

namespace strake {

// Whether a file with these first bytes is one.
bool LooksLikeHellaSwagFile(absl::string_view beginning);

// InvalidArgument, naming source, example and figures, for a file that is damaged or cut off, a
// token outside the vocabulary, and a choice of no tokens or more than `max_inputs`. A longer
// context loses its beginning.
absl::StatusOr<ChoiceTask> ParseHellaSwagFile(absl::string_view content, absl::string_view source,
                                              int64_t vocab_size, int64_t max_inputs);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_HELLASWAG_FILE_H_
