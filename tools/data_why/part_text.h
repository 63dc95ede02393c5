// PartText: what part of its document's text a part of a training row is.
#ifndef STRAKE_TOOLS_DATA_WHY_PART_TEXT_H_
#define STRAKE_TOOLS_DATA_WHY_PART_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/document_places.h"
#include "data/token_stream.h"
#include "tools/data_why/document_bytes.h"
#include "train/run/training_data.h"

namespace strake {

class PartText {
 public:
  // Of tokens of `stream`, one of data's training streams. Both must outlive it.
  PartText(const TrainingData* data, const TokenStream* stream);

  // Whether bytes are known: not of tokens without a tokenizer, nor without their documents.
  bool has_bytes(const DocumentTokens& part) const;

  // bytes[i]: the byte of the document's text at which token i of the part begins, as its tokens
  // decode, i <= number of tokens. Special tokens have none. Of tokens that are no bytes, reads the
  // document from its beginning, once.
  absl::StatusOr<std::vector<int64_t>> BytesOf(const DocumentTokens& part);

  absl::StatusOr<std::vector<int32_t>> TokensOf(const DocumentTokens& part) const;

  // The part's first bytes for the screen, in a line, in quotes; numbers of tokens without text.
  absl::StatusOr<std::string> Excerpt(const DocumentTokens& part) const;
  // One token of the part likewise.
  absl::StatusOr<std::string> TokenText(const DocumentTokens& part, int64_t token) const;

 private:
  bool is_text(const DocumentTokens& part) const;
  absl::StatusOr<std::string> Text(const DocumentTokens& part, int64_t begin, int64_t end,
                                   bool goes_on) const;

  const TrainingData* data_;
  const TokenStream* stream_;
  DocumentBytes bytes_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_DATA_WHY_PART_TEXT_H_
