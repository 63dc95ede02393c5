// DocumentIndex: where the documents of a token file begin, and what made the file. It lies beside
// the token file, which stays in llm.c's format: tokens.bin and tokens.documents.
//
//   "strakedx"  int32 version   int32 end_of_text   int64 vocab_size, num_tokens,
//   num_text_bytes   text tokenizer_hash   int64 number of sources, then that many texts
//   int64 number n of documents   int64 begin[n]   int64 offset[n]   int32 source[n]   uint32 CRC
//
// The version is 2 where the token file has targets, such as conversations have, and else 1.
// Little-endian. A text is its length, int64, and its bytes. The CRC-32C is that of all before it.
#ifndef STRAKE_DATA_DOCUMENT_INDEX_H_
#define STRAKE_DATA_DOCUMENT_INDEX_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

struct DocumentIndex {
  struct Document {
    int64_t begin = 0;   // the first token, in the token file; ascending
    int64_t offset = 0;  // in its decompressed source, in bytes (JSON lines: its line's)
    int32_t source = 0;  // of `sources`
    bool operator==(const Document&) const = default;
  };
  std::string tokenizer_hash;        // Tokenizer::Hash()
  int64_t vocab_size = 0;            // of the tokenizer
  int64_t num_tokens = 0;            // of the token file
  int32_t end_of_text = -1;          // the last token of each document; -1: none
  bool has_targets = false;          // TargetRanges (data/target_ranges.h) lie beside the file
  int64_t num_text_bytes = 0;        // of the documents' text, for bits per byte
  std::vector<std::string> sources;  // paths, as they were given
  std::vector<Document> documents;   // the first begins at token 0
  bool operator==(const DocumentIndex&) const = default;
};

// "a/b.bin" to "a/b.documents".
std::string DocumentIndexPath(const std::string& token_file);

// Returns nothing where there is no such file. DataLoss, naming it, for one that is damaged or does
// not fit a token file of `num_tokens` tokens, and where there is no file of the targets that it
// has: without them everything would be learnt.
absl::StatusOr<std::optional<DocumentIndex>> ReadDocumentIndex(const std::string& token_file,
                                                               int64_t num_tokens);
// The file's bytes to the index. `path` is for messages.
absl::StatusOr<DocumentIndex> ParseDocumentIndex(const std::string& path,
                                                 absl::string_view content);

// Replaces or creates the file, durably.
absl::Status WriteDocumentIndex(const std::string& token_file, const DocumentIndex& index);
std::string DocumentIndexBytes(const DocumentIndex& index);

}  // namespace strake

#endif  // STRAKE_DATA_DOCUMENT_INDEX_H_
