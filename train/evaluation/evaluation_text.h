// EvaluationText: the ids of a file, which a model's loss is computed over.
//
//   *.bin             token files of llm.c, as they are
//   text, JSON lines  data/text/document_reader.h's documents: each with the ids that the encoder
//                     puts around a text, and the encoder's separator between two of them
#ifndef STRAKE_TRAIN_EVALUATION_EVALUATION_TEXT_H_
#define STRAKE_TRAIN_EVALUATION_EVALUATION_TEXT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/text/document_reader.h"
#include "data/token_file.h"
#include "train/evaluation/text_encoder.h"

namespace strake {

class EvaluationText {
 public:
  // `encoder` may be null: then text is an error that names the file. Other errors, which name it
  // too: those of the readers, fewer than two ids, ids outside the vocabulary, and a token file
  // that another tokenizer made.
  static absl::StatusOr<EvaluationText> Open(const std::string& path, const TextEncoder* encoder,
                                             int64_t vocab_size, const DocumentOptions& options);

  const std::string& path() const { return path_; }
  int64_t num_ids() const;
  // Bytes of the text. Of a token file: as its boundaries say, else those of its ids, as far as an
  // encoder knows them.
  std::optional<int64_t> num_bytes() const { return num_bytes_; }
  // Reads ids[i] = id begin + i, i < count. Safe to call from many threads.
  absl::Status Read(int64_t begin, int64_t count, int32_t* ids) const;

 private:
  absl::Status ReadDocuments(const TextEncoder& encoder, const DocumentOptions& options);
  absl::Status OpenTokens(const TextEncoder* encoder, int64_t vocab_size);

  std::string path_;
  std::optional<TokenFile> file_;
  std::vector<int32_t> ids_;  // of text
  std::optional<int64_t> num_bytes_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_EVALUATION_TEXT_H_
