#include "train/evaluation/evaluation_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/document_index.h"
#include "glog/logging.h"

namespace strake {
namespace {

template <typename... Args>
absl::Status Bad(const std::string& path, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat("data file ", path, ": ", args...));
}

// Of all ids, read in pieces.
absl::StatusOr<int64_t> BytesOfIds(const TokenFile& file, const TextEncoder& encoder) {
  std::vector<int32_t> ids(std::min<int64_t>(file.num_tokens(), 1 << 16));
  int64_t num_bytes = 0;
  for (int64_t begin = 0; begin < file.num_tokens(); begin += ids.size()) {
    const int64_t count = std::min<int64_t>(ids.size(), file.num_tokens() - begin);
    STRAKE_RETURN_IF_ERROR(file.Read(begin, count, ids.data()));
    for (int64_t i = 0; i < count; ++i) num_bytes += encoder.num_bytes(ids[i]);
  }
  return num_bytes;
}

}  // namespace

absl::StatusOr<EvaluationText> EvaluationText::Open(const std::string& path,
                                                    const TextEncoder* encoder, int64_t vocab_size,
                                                    const DocumentOptions& options) {
  EvaluationText text;
  text.path_ = path;
  if (absl::EndsWith(path, ".bin")) {
    STRAKE_RETURN_IF_ERROR(text.OpenTokens(encoder, vocab_size));
  } else if (encoder == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("data file ", path, ": is text, and the model has a vocabulary of ",
                     vocab_size, " tokens but no tokenizer"));
  } else {
    STRAKE_RETURN_IF_ERROR(text.ReadDocuments(*encoder, options));
    const auto outside = std::find_if(text.ids_.begin(), text.ids_.end(),
                                      [&](int32_t id) { return id >= vocab_size; });
    if (outside != text.ids_.end()) {
      return Bad(path, "becomes token ", *outside,
                 ", which is not below the model's vocabulary of ", vocab_size,
                 "; give the model's own tokenizer");
    }
  }
  if (text.num_ids() >= 2) return text;
  return Bad(path, "holds ", text.num_ids(),
             " token, and a loss takes two: one to be predicted, and one to predict it from");
}

absl::Status EvaluationText::OpenTokens(const TextEncoder* encoder, int64_t vocab_size) {
  STRAKE_ASSIGN_OR_RETURN(file_, TokenFile::Open(path_, vocab_size));
  STRAKE_ASSIGN_OR_RETURN(const std::optional<DocumentIndex> index,
                          ReadDocumentIndex(path_, file_->num_tokens()));
  if (index.has_value()) {
    num_bytes_ = index->num_text_bytes;
    if (encoder == nullptr || encoder->hash.empty() || index->tokenizer_hash == encoder->hash) {
      return absl::OkStatus();
    }
    return Bad(path_, "was made with another tokenizer (", index->tokenizer_hash,
               ") than the model's (", encoder->hash, "); prepare the text again with the model's");
  }
  if (encoder == nullptr || encoder->num_bytes == nullptr) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(num_bytes_, BytesOfIds(*file_, *encoder));
  return absl::OkStatus();
}

absl::Status EvaluationText::ReadDocuments(const TextEncoder& encoder,
                                           const DocumentOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(const auto reader, DocumentReader::Open(path_, options));
  std::string document;
  DocumentPart part;
  num_bytes_ = 0;
  while (true) {
    STRAKE_ASSIGN_OR_RETURN(const bool more, reader->Next(&part));
    if (!more) return absl::OkStatus();
    document.append(part.text.data(), part.text.size());
    if (!part.ends_document) continue;
    if (!ids_.empty() && encoder.separator.has_value()) ids_.push_back(*encoder.separator);
    const std::vector<int32_t> ids = encoder.Whole(document);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    *num_bytes_ += document.size();
    document.clear();
  }
}

int64_t EvaluationText::num_ids() const {
  return file_.has_value() ? file_->num_tokens() : static_cast<int64_t>(ids_.size());
}

absl::Status EvaluationText::Read(int64_t begin, int64_t count, int32_t* ids) const {
  if (file_.has_value()) return file_->Read(begin, count, ids);
  CHECK(0 <= begin && 0 <= count && count <= num_ids() - begin)
      << "[evaluation_text] " << count << " ids from " << begin << " of " << num_ids();
  std::copy_n(ids_.begin() + begin, count, ids);
  return absl::OkStatus();
}

}  // namespace strake
