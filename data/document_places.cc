#include "data/document_places.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

DocumentName NameIn(const DocumentIndex& index, const DocumentIndex::Document& document) {
  return {index.sources[document.source], document.offset};
}

}  // namespace

DocumentPlaces::DocumentPlaces(const TokenStream* stream) : stream_(stream), begins_({0}) {
  for (const TokenFile& file : stream->files()) {
    begins_.push_back(begins_.back() + file.num_tokens());
  }
}

// Returns nothing for text, too.
absl::StatusOr<std::optional<DocumentIndex>> DocumentPlaces::ReadIndex(int file) const {
  const TokenFile& tokens = stream_->files()[file];
  if (tokens.encoding() == TokenEncoding::kBytes) return std::nullopt;
  STRAKE_ASSIGN_OR_RETURN(std::optional<DocumentIndex> index,
                          ReadDocumentIndex(tokens.path(), tokens.num_tokens()));
  if (index.has_value() && index->documents.empty()) return std::nullopt;
  return index;
}

absl::StatusOr<const std::optional<DocumentIndex>*> DocumentPlaces::IndexOf(int file) {
  const auto known = indices_.find(file);
  if (known != indices_.end()) return &known->second;
  STRAKE_ASSIGN_OR_RETURN(std::optional<DocumentIndex> index, ReadIndex(file));
  return &indices_.emplace(file, std::move(index)).first->second;
}

// From the token to the end of its document in the file.
absl::StatusOr<DocumentTokens> DocumentPlaces::PartAt(int64_t token) {
  const int file =
      static_cast<int>(std::upper_bound(begins_.begin(), begins_.end(), token) - begins_.begin()) -
      1;
  const int64_t file_begin = begins_[file];
  STRAKE_ASSIGN_OR_RETURN(const std::optional<DocumentIndex>* index, IndexOf(file));
  const TokenFile& tokens = stream_->files()[file];
  DocumentTokens part = {.tokens = {token, begins_[file + 1]},
                         .file = file,
                         .file_begin = file_begin,
                         .begin = file_begin,
                         .name = {.path = tokens.path()},
                         .is_known = tokens.encoding() == TokenEncoding::kBytes};
  if (!index->has_value()) return part;
  const std::vector<DocumentIndex::Document>& documents = (*index)->documents;
  const auto next = std::upper_bound(
      documents.begin(), documents.end(), token - file_begin,
      [](int64_t t, const DocumentIndex::Document& document) { return t < document.begin; });
  if (next != documents.end()) part.tokens.end = file_begin + next->begin;
  const DocumentIndex::Document& document = *std::prev(next);
  part.document = next - documents.begin() - 1;
  part.begin = file_begin + document.begin;
  part.name = NameIn(**index, document);
  part.is_known = true;
  part.end_of_text = (*index)->end_of_text;
  STRAKE_ASSIGN_OR_RETURN(part.begin, FirstTokenOf(part));
  return part;
}

// A long document goes on in further files, as their first.
absl::StatusOr<int64_t> DocumentPlaces::FirstTokenOf(const DocumentTokens& part) {
  int64_t begin = part.begin;
  for (int file = part.file; file > 0 && begin == begins_[file]; --file) {
    STRAKE_ASSIGN_OR_RETURN(const std::optional<DocumentIndex>* before, IndexOf(file - 1));
    if (!before->has_value()) break;
    const DocumentIndex::Document& last = (*before)->documents.back();
    if (NameIn(**before, last) != part.name) break;
    int32_t token = 0;
    STRAKE_RETURN_IF_ERROR(stream_->Read(begin - 1, 1, &token));
    // The same text was given twice.
    if (token == (*before)->end_of_text) break;
    begin = begins_[file - 1] + last.begin;
  }
  return begin;
}

absl::StatusOr<std::vector<DocumentTokens>> DocumentPlaces::PartsOf(const TokenRange& range) {
  CHECK(range.begin >= 0 && range.end <= begins_.back())
      << "[document_places] tokens [" << range.begin << ", " << range.end << ") of "
      << begins_.back();
  std::vector<DocumentTokens> parts;
  for (int64_t token = range.begin; token < range.end; token = parts.back().tokens.end) {
    STRAKE_ASSIGN_OR_RETURN(DocumentTokens part, PartAt(token));
    part.tokens.end = std::min(part.tokens.end, range.end);
    parts.push_back(std::move(part));
  }
  return parts;
}

absl::Status DocumentPlaces::Visit(
    absl::FunctionRef<void(const DocumentName& name, const TokenRange& tokens)> visit) const {
  for (size_t file = 0; file < stream_->files().size(); ++file) {
    const TokenFile& tokens = stream_->files()[file];
    const TokenRange all = {begins_[file], begins_[file + 1]};
    if (tokens.encoding() == TokenEncoding::kBytes) visit({.path = tokens.path()}, all);
    STRAKE_ASSIGN_OR_RETURN(const std::optional<DocumentIndex> index,
                            ReadIndex(static_cast<int>(file)));
    if (!index.has_value()) continue;
    for (size_t i = 0; i < index->documents.size(); ++i) {
      const int64_t end =
          i + 1 < index->documents.size() ? index->documents[i + 1].begin : index->num_tokens;
      visit(NameIn(*index, index->documents[i]),
            {all.begin + index->documents[i].begin, all.begin + end});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenRange>> FindDocuments(const TokenStream& stream,
                                                      const std::vector<ListedDocument>& list,
                                                      std::vector<bool>* found) {
  CHECK(found->size() == list.size())
      << "[document_places] " << found->size() << " marks of " << list.size();
  std::multimap<DocumentName, size_t> wanted;
  for (size_t i = 0; i < list.size(); ++i) wanted.emplace(list[i].name, i);
  std::vector<TokenRange> ranges;
  const auto visit = [&](const DocumentName& name, const TokenRange& tokens) {
    const auto [begin, end] = wanted.equal_range(name);
    if (begin != end) ranges.push_back(tokens);
    for (auto at = begin; at != end; ++at) (*found)[at->second] = true;
  };
  STRAKE_RETURN_IF_ERROR(DocumentPlaces(&stream).Visit(visit));
  return ranges;
}

}  // namespace strake
