#include "data/document_index.h"

#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/crc32c.h"
#include "core/base/durable_file.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/target_ranges.h"

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little, "indices are little-endian");

constexpr absl::string_view kMagic = "strakedx";
constexpr int32_t kVersion = 1, kVersionWithTargets = 2;
constexpr int64_t kDocumentBytes = 2 * sizeof(int64_t) + sizeof(int32_t);
constexpr char kAdvice[] = "; prepare the tokens again, or remove it to do without documents";

class Writer {
 public:
  explicit Writer(std::string* bytes) : bytes_(bytes) {}
  template <typename T>
  void Number(T value) {
    bytes_->append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Text(const std::string& text) {
    Number<int64_t>(text.size());
    bytes_->append(text);
  }

 private:
  std::string* const bytes_;
};

// Reads from the front of the bytes. Once they do not suffice, everything is 0 and ok() is false.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  T Number() {
    T value = 0;
    const absl::string_view taken = Take(sizeof(T));
    if (ok_) std::memcpy(&value, taken.data(), sizeof(T));
    return value;
  }
  std::string Text() { return std::string(Take(Number<int64_t>())); }
  absl::string_view Take(int64_t n) {
    if (n < 0 || n > static_cast<int64_t>(bytes_.size())) ok_ = false;
    if (!ok_) return {};
    const absl::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  // A number of items of at least so many bytes each, which the bytes that are left can hold.
  int64_t Count(int64_t item_bytes) {
    const int64_t count = Number<int64_t>();
    if (count < 0 || count > static_cast<int64_t>(bytes_.size()) / item_bytes) ok_ = false;
    return ok_ ? count : 0;
  }

  bool ok() const { return ok_; }
  bool at_end() const { return bytes_.empty(); }

 private:
  absl::string_view bytes_;
  bool ok_ = true;
};

absl::Status Damaged(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what, kAdvice));
}

void ReadDocuments(Reader* reader, std::vector<DocumentIndex::Document>* documents) {
  documents->resize(reader->Count(kDocumentBytes));
  for (auto& document : *documents) document.begin = reader->Number<int64_t>();
  for (auto& document : *documents) document.offset = reader->Number<int64_t>();
  for (auto& document : *documents) document.source = reader->Number<int32_t>();
}

absl::Status CheckDocuments(const std::string& path, const DocumentIndex& index) {
  int64_t previous = 0;
  for (size_t i = 0; i < index.documents.size(); ++i) {
    const DocumentIndex::Document& document = index.documents[i];
    const bool in_order = i == 0 ? document.begin == 0 : document.begin >= previous;
    if (!in_order || document.begin > index.num_tokens) {
      return Damaged(
          path, absl::StrCat("document ", i, " begins at token ", document.begin, ", after one at ",
                             previous, " and of ", index.num_tokens, " tokens"));
    }
    if (document.source < 0 || document.source >= static_cast<int64_t>(index.sources.size()) ||
        document.offset < 0) {
      return Damaged(path,
                     absl::StrCat("document ", i, " is at byte ", document.offset, " of source ",
                                  document.source, " of ", index.sources.size()));
    }
    previous = document.begin;
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const std::string& path, const DocumentIndex& index) {
  const auto check = [&](bool good, const char* what, int64_t value) {
    return good ? absl::OkStatus() : Damaged(path, absl::StrCat(what, " is ", value));
  };
  const int64_t max = std::numeric_limits<int32_t>::max();
  STRAKE_RETURN_IF_ERROR(check(index.vocab_size >= 1 && index.vocab_size <= max,
                               "the vocabulary's size", index.vocab_size));
  STRAKE_RETURN_IF_ERROR(check(index.num_tokens >= 0 && index.num_tokens <= max,
                               "the number of tokens", index.num_tokens));
  STRAKE_RETURN_IF_ERROR(
      check(index.num_text_bytes >= 0, "the number of bytes of text", index.num_text_bytes));
  return check(index.end_of_text >= -1 && index.end_of_text < index.vocab_size,
               "the end-of-text token", index.end_of_text);
}

absl::Status CheckTargetsAreThere(const std::string& path, const std::string& token_file) {
  const std::string targets = TargetRangesPath(token_file);
  std::error_code error;
  if (std::filesystem::exists(targets, error)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(targets, ": is missing, and ", path,
                                          " says that not all of ", token_file,
                                          " is to be learnt; prepare the tokens again"));
}

}  // namespace

std::string DocumentIndexPath(const std::string& token_file) {
  constexpr absl::string_view kExtension = ".bin";
  const size_t stem = absl::EndsWith(token_file, kExtension) ? token_file.size() - kExtension.size()
                                                             : token_file.size();
  return token_file.substr(0, stem) + ".documents";
}

std::string DocumentIndexBytes(const DocumentIndex& index) {
  std::string bytes(kMagic);
  Writer writer(&bytes);
  writer.Number(index.has_targets ? kVersionWithTargets : kVersion);
  writer.Number(index.end_of_text);
  for (const int64_t n : {index.vocab_size, index.num_tokens, index.num_text_bytes}) {
    writer.Number(n);
  }
  writer.Text(index.tokenizer_hash);
  writer.Number<int64_t>(index.sources.size());
  for (const std::string& source : index.sources) writer.Text(source);
  writer.Number<int64_t>(index.documents.size());
  bytes.reserve(bytes.size() + index.documents.size() * kDocumentBytes + sizeof(uint32_t));
  for (const auto& document : index.documents) writer.Number(document.begin);
  for (const auto& document : index.documents) writer.Number(document.offset);
  for (const auto& document : index.documents) writer.Number(document.source);
  writer.Number(ExtendCrc32c(0, bytes));
  return bytes;
}

absl::StatusOr<DocumentIndex> ParseDocumentIndex(const std::string& path,
                                                 absl::string_view content) {
  if (!absl::StartsWith(content, kMagic)) return Damaged(path, "does not begin as an index does");
  Reader reader(content);
  reader.Take(kMagic.size());
  const auto version = reader.Number<int32_t>();
  if (!reader.ok()) return Damaged(path, "is cut off");
  if (version != kVersion && version != kVersionWithTargets) {
    return Damaged(path, absl::StrCat("has version ", version, ", and ", kVersion, " and ",
                                      kVersionWithTargets, " are known"));
  }
  DocumentIndex index;
  index.has_targets = version == kVersionWithTargets;
  index.end_of_text = reader.Number<int32_t>();
  index.vocab_size = reader.Number<int64_t>();
  index.num_tokens = reader.Number<int64_t>();
  index.num_text_bytes = reader.Number<int64_t>();
  index.tokenizer_hash = reader.Text();
  index.sources.resize(reader.Count(sizeof(int64_t)));
  for (std::string& source : index.sources) source = reader.Text();
  ReadDocuments(&reader, &index.documents);
  const auto crc = reader.Number<uint32_t>();
  if (!reader.ok()) return Damaged(path, "is cut off or damaged");
  if (!reader.at_end()) return Damaged(path, "is longer than an index of its documents");
  if (crc != ExtendCrc32c(0, content.substr(0, content.size() - sizeof(crc)))) {
    return Damaged(path, "is damaged: its checksum is another");
  }
  STRAKE_RETURN_IF_ERROR(CheckNumbers(path, index));
  STRAKE_RETURN_IF_ERROR(CheckDocuments(path, index));
  return index;
}

absl::StatusOr<std::optional<DocumentIndex>> ReadDocumentIndex(const std::string& token_file,
                                                               int64_t num_tokens) {
  const std::string path = DocumentIndexPath(token_file);
  const auto content = ReadFile(path, std::numeric_limits<int64_t>::max());
  if (absl::IsNotFound(content.status())) return std::nullopt;
  if (!content.ok()) return content.status();
  STRAKE_ASSIGN_OR_RETURN(DocumentIndex index, ParseDocumentIndex(path, *content));
  if (index.num_tokens != num_tokens) {
    return Damaged(path, absl::StrCat("is of ", index.num_tokens, " tokens, and ", token_file,
                                      " has ", num_tokens));
  }
  if (index.has_targets) STRAKE_RETURN_IF_ERROR(CheckTargetsAreThere(path, token_file));
  return index;
}

absl::Status WriteDocumentIndex(const std::string& token_file, const DocumentIndex& index) {
  return WriteFileDurably(DocumentIndexPath(token_file), DocumentIndexBytes(index));
}

}  // namespace strake
