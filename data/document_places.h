// DocumentPlaces: which document of which text the tokens of a stream are of.
#ifndef STRAKE_DATA_DOCUMENT_PLACES_H_
#define STRAKE_DATA_DOCUMENT_PLACES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/document_index.h"
#include "data/document_list.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"

namespace strake {

// Tokens of one document, or of a token file whose documents are not known.
struct DocumentTokens {
  TokenRange tokens = {};    // of the stream
  int file = 0;              // of the stream
  int64_t file_begin = 0;    // the file's first token, in the stream
  int64_t document = 0;      // its number in the token file, from 0
  int64_t begin = 0;         // the document's first token, in the stream
  DocumentName name = {};    // of token files without an index, their path
  bool is_known = false;     // whether there is an index, or the file is text
  int32_t end_of_text = -1;  // the token that ends the document; -1: none
};

class DocumentPlaces {
 public:
  // `stream` must outlive it.
  explicit DocumentPlaces(const TokenStream* stream);

  // The parts of a range, one after the other. Reads the indices of its files, and keeps them.
  // ReadDocumentIndex()'s error. A document that goes on in the next file is one.
  absl::StatusOr<std::vector<DocumentTokens>> PartsOf(const TokenRange& range);

  // Calls visit(name, tokens) for the documents of the stream whose names are known, in order; for
  // one that goes on in the next file twice.
  absl::Status Visit(
      absl::FunctionRef<void(const DocumentName& name, const TokenRange& tokens)> visit) const;

 private:
  absl::StatusOr<std::optional<DocumentIndex>> ReadIndex(int file) const;
  absl::StatusOr<const std::optional<DocumentIndex>*> IndexOf(int file);
  absl::StatusOr<DocumentTokens> PartAt(int64_t token);
  absl::StatusOr<int64_t> FirstTokenOf(const DocumentTokens& part);

  const TokenStream* stream_;
  std::vector<int64_t> begins_;  // of each file, in the stream; then the number of tokens
  std::map<int, std::optional<DocumentIndex>> indices_;
};

// The tokens of the documents in a list, of a stream, in its order. Sets found[i] for each document
// i of the list that is there.
absl::StatusOr<std::vector<TokenRange>> FindDocuments(const TokenStream& stream,
                                                      const std::vector<ListedDocument>& list,
                                                      std::vector<bool>* found);

}  // namespace strake

#endif  // STRAKE_DATA_DOCUMENT_PLACES_H_
