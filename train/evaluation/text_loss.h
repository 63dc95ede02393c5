// TextLoss: a model's loss, perplexity and bits per byte over a text of tokens.
//
//   N ids, T seq_len, S stride
//   stride 0   blocks: inputs [kT, kT + T), targets one further. Every token but the first is
//              predicted once, from the tokens of its block alone; the last block may be shorter.
//   stride S   windows: ids [kS, kS + T), until one reaches the end. A window predicts those of its
//              ids that no window before it held. Each token but the first is predicted once, from
//              at least T - S others where there are as many.
//
//   loss = sum of -ln p / number predicted      perplexity = e^loss
//   bits_per_byte = sum of -ln p / ln 2 / bytes of the text
//
// A stride gives the windows of Hugging Face's guide "Perplexity of fixed-length models".
#ifndef STRAKE_TRAIN_EVALUATION_TEXT_LOSS_H_
#define STRAKE_TRAIN_EVALUATION_TEXT_LOSS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {

// Ids [begin, begin + sequence.num_ids) of a text.
struct TextWindow {
  int64_t begin = 0;
  ScoredSequence sequence = {};
};

// The windows that predict something, in order. CHECKs T >= 1 and 0 <= S < T.
std::vector<TextWindow> TextWindows(int64_t num_ids, int64_t seq_len, int64_t stride);

struct TextLoss {
  double nats = 0;                   // the sum
  int64_t tokens = 0;                // predicted
  std::optional<int64_t> bytes = 0;  // of the text, where known

  double loss() const { return nats / static_cast<double>(tokens); }
  double perplexity() const;
  // Nothing without bytes.
  std::optional<double> bits_per_byte() const;
  // The loss over both texts.
  TextLoss& operator+=(const TextLoss& other);
};

// Reads ids [begin, begin + count) of a text.
using ReadIds = absl::FunctionRef<absl::Status(int64_t begin, int64_t count, int32_t* ids)>;

// The sum of windows' losses in the order of the text. SequenceScorer::SumLosses()'s errors.
// `bytes` stays to be set.
absl::StatusOr<TextLoss> EvaluateText(SequenceScorer& scorer, int64_t num_ids, ReadIds read,
                                      int64_t seq_len, int64_t stride);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_TEXT_LOSS_H_
