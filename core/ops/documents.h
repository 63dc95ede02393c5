// Documents: several documents packed into each sequence of a batch, none of which sees another.
//
// `positions` holds the position of each token in its document. From that number alone a kernel
// knows the first key that a query sees (i - positions[i] for query i of a sequence) and the angle
// or learned row of its position, without a search. Its shape does not depend on the documents, so
// neither do the memory of a step nor a captured graph, and any slice of a batch is sliced by rows.
// `lengths` is the same division on the host, which the CPU's kernels go by, and which counts the
// work.
//
// A context-parallel rank, which holds its chunks of each sequence (core/tensor/sequence_chunks.h),
// has the positions of its tokens, and the lengths of the documents of the whole sequences.
#ifndef STRAKE_CORE_OPS_DOCUMENTS_H_
#define STRAKE_CORE_OPS_DOCUMENTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/tensor/sequence_chunks.h"
#include "core/tensor/tensor.h"

namespace strake {

// A batch of B sequences of T tokens. The default is one document per sequence.
struct Documents {
  bool defined() const { return positions.defined(); }

  Tensor positions = {};  // [B*T] i32, where the batch is: 0 at a document's first token
  // The numbers of tokens of all documents, in order, in host memory that outlives the use. In a
  // dry run they may be a guess, from which the work is counted.
  absl::Span<const int64_t> lengths = {};
};

// positions = [B*T/C] i32, in host memory: those of a rank's chunks, of documents of these lengths;
// one rank's are [B*T]. Returns InvalidArgument, with the document's index, for a length below 1
// and for a document that crosses the end of a sequence of seq_len = T tokens, and with both
// numbers if the lengths do not sum up to B*T. CHECKs that the ranks divide the sequences.
absl::Status SetDocumentPositions(absl::Span<const int64_t> lengths, int64_t seq_len,
                                  Tensor positions, const SequenceChunks& chunks = {});

// Returns the same errors for an op's documents, of num_tokens = B*T/C tokens. Where positions are
// in host memory, also returns an error that names the first that differs from those of the
// lengths. On CUDA nothing reads them back, so the caller sets them by SetDocumentPositions().
// CHECKs shape and dtype of positions, and that there are some where there are lengths.
absl::Status CheckDocuments(const char* op, const Documents& documents, int64_t num_tokens,
                            int64_t seq_len, const SequenceChunks& chunks = {});

// Returns InvalidArgument, with index and value, for the first position outside of
// [0, num_positions). The positions are i32, in host memory.
absl::Status CheckPositions(const char* op, const Tensor& positions, int64_t num_positions);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_DOCUMENTS_H_
