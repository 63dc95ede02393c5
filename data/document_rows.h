// DocumentRows: how the documents of a sequence of tokens become rows of T tokens.
//
//                   text                                  with targets: conversations
//   kConcat         row i is tokens [i*T, i*T + T)        -
//   kMask           the same; a piece of each document    whole documents, as many as fit
//   kPad            ceil((n - 1) / T) rows of each        one whole document
//                   document of n tokens
//
// The target of a token is the next one of its document; in text as a stream, the next one. With
// targets, it counts only where it is in one of their ranges, and a document of more than T tokens
// is an error, or is cut to its first T. Documents without a token that counts are in no row. So
// every row has one, except those of text in kMask whose documents are all of one token.
//
// Conversations are packed once: the longest first, each where it leaves the least room (best fit;
// at most 11/9 of the rows that are needed). With shuffle those of one length change places in each
// epoch, so that a document has other neighbours, and the number of rows stays. A row is a function
// of its number and the epoch.
//
// Memory per document, in bytes: kMask 8, kPad 16, conversations 28 and at most 8 per row; 16 per
// range of targets. A row takes O(log documents), and O(1) for each of its documents.
// Source: Johnson, "Near-Optimal Bin Packing Algorithms", 1973; for training: Ding et al., "Fewer
// Truncations Improve Language Modeling", ICML 2024, section 3.
#ifndef STRAKE_DATA_DOCUMENT_ROWS_H_
#define STRAKE_DATA_DOCUMENT_ROWS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/token_batch.h"
#include "data/token_ranges.h"

namespace strake {

class DocumentRows {
 public:
  struct Options {
    int64_t seq_len = 0;
    DocumentMode mode = DocumentMode::kConcat;
    bool truncate = false;  // cut conversations that are longer than a row
    uint64_t seed = 0;
    bool shuffle = true;
  };

  // Tokens [begin, begin + num_tokens) of the sequence, of one document.
  struct Piece {
    int64_t begin = 0;
    int64_t num_tokens = 0;
    bool goes_on = false;  // the next token is the target of the last
    friend bool operator==(const Piece&, const Piece&) = default;
  };

  // Of a sequence of `num_tokens` tokens. `begins` are those of its documents, ascending, the first
  // one 0; kConcat needs none. `targets` are ascending ranges of the sequence. InvalidArgument for
  // a conversation that is too long, with its tokens, and where no row has a target.
  static absl::StatusOr<DocumentRows> Create(int64_t num_tokens, std::vector<int64_t> begins,
                                             std::optional<std::vector<TokenRange>> targets,
                                             const Options& options);

  int64_t num_rows() const { return num_rows_; }
  // Conversations without a token that counts.
  int64_t num_dropped() const { return num_dropped_; }
  bool has_targets() const { return has_targets_; }

  // Sets `pieces` to those of a row, in order. What they leave of it is padding.
  void Row(int64_t row, int64_t epoch, std::vector<Piece>* pieces) const;

  // The targets that count in a row.
  int64_t NumTargets(int64_t row, int64_t epoch) const;

  // Calls visit(begin, end) for the parts of [begin, end) that are in the targets' ranges.
  template <typename Visit>
  void VisitTargets(int64_t begin, int64_t end, const Visit& visit) const {
    for (size_t i = FirstTargetRange(begin); i < targets_.size() && targets_[i].begin < end; ++i) {
      visit(std::max(begin, targets_[i].begin), std::min(end, targets_[i].end));
    }
  }

  // A hash of where documents begin and of what counts; 0 for kConcat.
  uint64_t Hash() const { return hash_; }

 private:
  // Conversations, by length.
  struct Document {
    int64_t begin;
    int32_t num_tokens, num_targets;
  };

  explicit DocumentRows(const Options& options) : options_(options) {}
  bool is_windows() const { return options_.mode != DocumentMode::kPad && !has_targets_; }
  bool HasTarget() const;
  void CutText();
  absl::Status TakeConversations();
  void PackConversations();
  size_t FirstTargetRange(int64_t begin) const;
  int64_t NumTargetsIn(int64_t begin, int64_t end) const;
  const Document& DocumentAt(int64_t slot, int64_t epoch) const;
  void WindowRow(int64_t begin, std::vector<Piece>* pieces) const;
  Piece CutRow(int64_t row) const;

  Options options_;
  int64_t num_rows_ = 0;
  int64_t num_dropped_ = 0;
  bool has_targets_ = false;
  uint64_t hash_ = 0;
  std::vector<int64_t> begins_;      // of text: of each document; then the number of tokens
  std::vector<int64_t> row_begins_;  // kPad of text: the first row of each document; then all
  std::vector<TokenRange> targets_;
  std::vector<Document> documents_;
  // Packed: documents_ of n tokens begin at length_begins_[n]. Row r has those in the places
  // slots_[slot_begins_[r]] up to slots_[slot_begins_[r + 1]].
  std::vector<int64_t> length_begins_;
  std::vector<int32_t> slots_;
  std::vector<int64_t> slot_begins_;
};

}  // namespace strake

#endif  // STRAKE_DATA_DOCUMENT_ROWS_H_
