// EncodePipeline: documents to tokens on many threads, in order.
//
//   a thread reads files and cuts documents into pieces -> threads encode -> the caller takes
//
// A conversation is a document in one piece, whose text is what its format writes.
// Batches of pieces go round, so memory does not grow with the files.
#ifndef STRAKE_DATA_TEXT_ENCODE_PIPELINE_H_
#define STRAKE_DATA_TEXT_ENCODE_PIPELINE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/chat/chat_encoder.h"
#include "data/text/document_reader.h"
#include "data/text/prepare_record.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// A document or a part of one. Its tokens do not depend on how a document is cut.
struct EncodedPiece {
  PreparePosition position = {};
  int64_t offset = 0;  // of the document in its decompressed source
  bool begins_document = false, ends_document = false;
  size_t num_text_bytes = 0;
  std::optional<ChatText> chat = {};  // of a conversation
  size_t tokens_end = 0;              // in the batch; it begins where the one before ends
};

struct EncodedBatch {
  std::string text = {};  // of documents that are no conversations, one after the other
  size_t num_text_bytes = 0;
  std::vector<int32_t> tokens = {};
  std::vector<uint8_t> is_answer = {};  // of conversations, for each token
  std::vector<EncodedPiece> pieces = {};
  // Sources that ended after the batch before, with what is known of one that was read.
  std::vector<std::pair<int64_t, PrepareSource>> ended_sources = {};
  int64_t bytes_read = 0;     // of all files up to here
  int64_t bytes_skipped = 0;  // of these, before the first piece
};

struct EncodeOptions {
  DocumentOptions documents = {};
  // Null unless the documents are conversations. It must outlive the pipeline.
  const ChatEncoder* chat = nullptr;
  std::vector<int32_t> prefix = {}, suffix = {};  // of each document that is no conversation
  int num_threads = 1;
};

class EncodePipeline {
 public:
  // Begins with the piece at `begin`. `tokenizer` must outlive the pipeline.
  EncodePipeline(const Tokenizer* tokenizer, std::vector<PrepareSource> sources,
                 PreparePosition begin, EncodeOptions options);
  // Waits for its threads, which may read a block first.
  ~EncodePipeline();

  // The next batch, valid until the next call; null at the end. Calls `poll` some times a second
  // while it waits, and returns its error.
  absl::StatusOr<const EncodedBatch*> Next(const std::function<absl::Status()>& poll);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_ENCODE_PIPELINE_H_
