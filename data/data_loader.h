// DataLoader: training samples from ranges of a token stream, in a pseudo-random order computed by
// a function.
//
//   sample index i = row i of the documents in the ranges (data/document_rows.h)
//                    kConcat: tokens [i*T, i*T + T] of the n tokens of the ranges, one range after
//                    the other; the last one is only a target;  N = (n - 1) / T
//   global sample g = index order_e(g mod N), epoch e = g / N
//   order_e = Permutation(N, seed, e), or the identity without `shuffle`
//
// T sequence length, N samples in an epoch. The global sample number alone is the position of a
// run: a rank loads the samples it is given, whatever the number of ranks or the batch size. Ranks
// that share sequences load their chunks of the same samples, and read no other tokens.
#ifndef STRAKE_DATA_DATA_LOADER_H_
#define STRAKE_DATA_DATA_LOADER_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/sequence_chunks.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "data/document_rows.h"
#include "data/target_ranges.h"
#include "data/token_batch.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"

namespace strake {

// What is known of a stream's documents.
struct StreamDocuments {
  std::vector<int64_t> begins = {};          // ascending; empty where they are not known
  std::optional<TargetRanges> targets = {};  // of conversations
};

class DataLoader {
 public:
  struct Options {
    int64_t seq_len = 0;
    uint64_t seed = 0;
    bool shuffle = true;
    DocumentMode documents = DocumentMode::kConcat;
    bool truncate = false;  // conversations that are longer than a sequence
  };

  // Samples of tokens of `stream`, which must outlive the loader. A range begins a document, too.
  // Errors: a sequence length below 1; ranges too short for one sample; DocumentRows' errors.
  // CHECKs that the documents are known, unless the mode is kConcat, which takes none.
  static absl::StatusOr<DataLoader> Create(const TokenStream* stream, TokenRanges ranges,
                                           const Options& options,
                                           const StreamDocuments& documents = {});
  // The same of tokens [begin, end).
  static absl::StatusOr<DataLoader> Create(const TokenStream* stream, int64_t begin, int64_t end,
                                           const Options& options) {
    return Create(stream, TokenRanges({{begin, end}}), options);
  }

  // The documents in the ranges that are longer than a sequence.
  struct LongDocuments {
    int64_t count = 0;
    int64_t of = 0;          // all documents in the ranges
    int64_t num_beyond = 0;  // their tokens after the first seq_len of each
    TokenRange first = {};   // of the stream
  };
  static LongDocuments FindLongDocuments(const TokenRanges& ranges,
                                         const std::vector<int64_t>& begins, int64_t seq_len);

  // The number of samples in an epoch.
  int64_t num_samples() const { return rows_.num_rows(); }
  const Options& options() const { return options_; }
  // Where documents begin, and which are in which row.
  const DocumentRows& rows() const { return rows_; }

  // Loads global samples [first_sample, first_sample + count), one after the other, or of each the
  // chunks that one of C ranks holds:
  //   tokens    [count*T/C] i32  =, 0 for padding
  //   targets   [count*T/C] i32  =, of each token the one that follows it in the whole sample, or
  //                              kNoTarget
  //   positions [count*T/C] i32  =, where they are given
  //   lengths                    =, likewise, of the whole samples; else none
  // The caller gives the tensors; positions may be undefined for kConcat, which is a document per
  // sample. The rest of a sample is a document of padding. Returns TokenRanges::Read's error.
  // CHECKs that the ranks divide samples. Safe to call from many threads.
  absl::Status Load(int64_t first_sample, int64_t count, TokenBatch* batch,
                    const SequenceChunks& chunks = {}) const;
  // The same of kConcat.
  absl::Status Load(int64_t first_sample, int64_t count, Tensor tokens, Tensor targets) const;

  // The number of targets of these global samples, whole: count*T for kConcat. Reads no tokens.
  int64_t NumTargets(int64_t first_sample, int64_t count) const;

  // The ranges of the stream that hold a global sample's tokens, in their order.
  std::vector<TokenRange> TokensOf(int64_t sample) const;

 private:
  using Pieces = std::vector<DocumentRows::Piece>;

  DataLoader(const TokenStream* stream, TokenRanges ranges, DocumentRows rows,
             const Options& options)
      : stream_(stream), ranges_(std::move(ranges)), rows_(std::move(rows)), options_(options) {}
  int64_t RowOf(int64_t sample) const;
  absl::Status ReadPieces(const Pieces& pieces, absl::Span<int32_t> tokens) const;
  absl::Status SetTargets(const Pieces& pieces, absl::Span<const int32_t> tokens,
                          absl::Span<int32_t> targets) const;
  void SetTargetsOfText(const Pieces& pieces, absl::Span<const int32_t> tokens,
                        absl::Span<int32_t> targets) const;
  void SetTargetsInRanges(const Pieces& pieces, const int32_t* tokens, int32_t* targets) const;
  bool IsTarget(int64_t token) const;
  void AddLengths(const Pieces& pieces, std::vector<int64_t>* lengths) const;

  const TokenStream* stream_;
  TokenRanges ranges_;
  DocumentRows rows_;
  Options options_;
};

}  // namespace strake

#endif  // STRAKE_DATA_DATA_LOADER_H_
