#include "core/ops/documents.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `local_tokens` are those of a rank.
absl::Status CheckLengths(const char* op, absl::Span<const int64_t> lengths, int64_t local_tokens,
                          int64_t seq_len, const SequenceChunks& chunks) {
  CHECK(chunks.Divide(seq_len)) << "[" << op << "] sequences of " << seq_len << " tokens over "
                                << chunks.num_ranks << " ranks";
  const int64_t num_tokens = local_tokens * chunks.num_ranks;
  int64_t token = 0;
  for (size_t d = 0; d < lengths.size(); ++d) {
    const int64_t length = lengths[d], at = seq_len == 0 ? 0 : token % seq_len;
    if (length < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("[", op, "] document ", d, " has ", length, " tokens; it needs one"));
    }
    // Before their sum, which might overflow.
    if (length > seq_len - at) {
      return absl::InvalidArgumentError(
          absl::StrCat("[", op, "] document ", d, " has ", length, " tokens from token ", at,
                       " of a sequence on, and crosses its end at ", seq_len));
    }
    token += length;
  }
  if (token == num_tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("[", op, "] ", lengths.size(), " documents have ",
                                                 token, " tokens, the batch has ", num_tokens));
}

// Calls body(token, position) for each of a rank's tokens, in order, until it returns false.
template <typename Body>
void ForEachPosition(absl::Span<const int64_t> lengths, int64_t seq_len,
                     const SequenceChunks& chunks, const Body& body) {
  const auto held = chunks.Of(seq_len);
  int64_t token = 0, begin = 0;  // of the document, in its sequence
  for (const int64_t length : lengths) {
    const int64_t document_end = begin + length;
    for (const ShardRange& chunk : held) {
      const int64_t end = std::min(document_end, chunk.end);
      for (int64_t at = std::max(begin, chunk.begin); at < end; ++at) {
        if (!body(token++, at - begin)) return;
      }
    }
    begin = document_end == seq_len ? 0 : document_end;
  }
}

}  // namespace

absl::Status SetDocumentPositions(absl::Span<const int64_t> lengths, int64_t seq_len,
                                  Tensor positions, const SequenceChunks& chunks) {
  const absl::Status valid =
      CheckLengths("documents", lengths, positions.num_elements(), seq_len, chunks);
  if (!valid.ok()) return valid;
  int32_t* const to = positions.data<int32_t>();
  ForEachPosition(lengths, seq_len, chunks, [&](int64_t token, int64_t position) {
    to[token] = static_cast<int32_t>(position);
    return true;
  });
  return absl::OkStatus();
}

absl::Status CheckDocuments(const char* op, const Documents& documents, int64_t num_tokens,
                            int64_t seq_len, const SequenceChunks& chunks) {
  const Tensor& positions = documents.positions;
  CHECK(positions.defined() || documents.lengths.empty())
      << "[" << op << "] " << documents.lengths.size() << " documents without positions";
  if (!positions.defined()) return absl::OkStatus();
  CHECK(positions.shape() == Shape({num_tokens}) && positions.dtype() == DType::kI32)
      << "[" << op << "] positions " << positions.ToString() << ", tokens " << num_tokens;
  absl::Status status = CheckLengths(op, documents.lengths, num_tokens, seq_len, chunks);
  const bool readable = positions.device() == Device::kCpu && positions.raw() != nullptr;
  if (!status.ok() || !readable) return status;
  const int32_t* const got = positions.data<int32_t>();
  ForEachPosition(documents.lengths, seq_len, chunks, [&](int64_t token, int64_t position) {
    if (got[token] == position) return true;
    status =
        absl::InvalidArgumentError(absl::StrCat("[", op, "] positions[", token, "] is ", got[token],
                                                "; the documents' lengths give ", position));
    return false;
  });
  return status;
}

absl::Status CheckPositions(const char* op, const Tensor& positions, int64_t num_positions) {
  const int32_t* const got = positions.data<int32_t>();
  for (int64_t n = 0; n < positions.num_elements(); ++n) {
    if (got[n] >= 0 && got[n] < num_positions) continue;
    return absl::InvalidArgumentError(absl::StrCat("[", op, "] positions[", n, "] is ", got[n],
                                                   ", outside of [0, ", num_positions, ")"));
  }
  return absl::OkStatus();
}

}  // namespace strake
