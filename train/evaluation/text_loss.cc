#include "train/evaluation/text_loss.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

// A block's last target is its successor's first input.
std::vector<TextWindow> Blocks(int64_t num_ids, int64_t seq_len) {
  std::vector<TextWindow> blocks;
  for (int64_t begin = 0; begin + 1 < num_ids; begin += seq_len) {
    blocks.push_back({begin, {.num_ids = std::min(seq_len, num_ids - 1 - begin) + 1}});
  }
  return blocks;
}

}  // namespace

std::vector<TextWindow> TextWindows(int64_t num_ids, int64_t seq_len, int64_t stride) {
  CHECK(seq_len >= 1 && 0 <= stride && stride < seq_len)
      << "[text_loss] seq_len " << seq_len << ", stride " << stride;
  if (stride == 0) return Blocks(num_ids, seq_len);
  std::vector<TextWindow> windows;
  int64_t held = 0;  // by windows so far
  for (int64_t begin = 0; held < num_ids; begin += stride) {
    const int64_t end = std::min(begin + seq_len, num_ids);
    const ScoredSequence sequence = {.num_ids = end - begin,
                                     .first = std::max<int64_t>(1, held - begin)};
    if (sequence.num_predicted() > 0) windows.push_back({begin, sequence});
    held = end;
  }
  return windows;
}

double TextLoss::perplexity() const { return std::exp(loss()); }

std::optional<double> TextLoss::bits_per_byte() const {
  if (!bytes.has_value() || *bytes == 0) return std::nullopt;
  return nats / std::log(2.0) / static_cast<double>(*bytes);
}

TextLoss& TextLoss::operator+=(const TextLoss& other) {
  nats += other.nats;
  tokens += other.tokens;
  if (bytes.has_value() && other.bytes.has_value()) {
    *bytes += *other.bytes;
  } else {
    bytes.reset();
  }
  return *this;
}

absl::StatusOr<TextLoss> EvaluateText(SequenceScorer& scorer, int64_t num_ids, ReadIds read,
                                      int64_t seq_len, int64_t stride) {
  const std::vector<TextWindow> windows = TextWindows(num_ids, seq_len, stride);
  std::vector<ScoredSequence> sequences;
  TextLoss result;
  for (const TextWindow& window : windows) {
    sequences.push_back(window.sequence);
    result.tokens += window.sequence.num_predicted();
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<double> losses,
                          scorer.SumLosses(sequences, [&](int64_t i, int32_t* ids) {
                            return read(windows[i].begin, sequences[i].num_ids, ids);
                          }));
  result.nats = std::accumulate(losses.begin(), losses.end(), 0.0);
  return result;
}

}  // namespace strake
