#include "data/text/prepare.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "core/base/name_error.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "data/document_index.h"
#include "data/target_ranges.h"
#include "data/text/encode_pipeline.h"
#include "data/text/file_content.h"
#include "data/text/prepare_record.h"
#include "data/text/prepared_directory.h"
#include "data/text/token_file_writer.h"
#include "data/token_file.h"
#include "data/tokenizer/library_versions.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxFileTokens = 1'000'000'000;  // a header counts to 2^31 - 1
// Of the tokens' bytes for a text and settings: a change of either gives it another number.
constexpr int kVersion = 1;
// The same of a conversation, as far as its format's hash does not tell.
constexpr int kChatVersion = 1;

absl::Status Named(const std::string& name, const absl::Status& status) {
  return absl::IsCancelled(status) ? status : NameError(name, status);
}

std::vector<int32_t> PrefixOf(const Tokenizer& tokenizer, const PrepareOptions& options) {
  return options.prefix ? tokenizer.spec().prefix : std::vector<int32_t>();
}

// What a document is.
std::string DocumentsText(const Tokenizer& tokenizer, const PrepareOptions& options,
                          const std::vector<PrepareSource>& sources) {
  if (options.chat != nullptr) {
    return absl::StrCat("conversations, version ", kChatVersion, ", ", options.chat->Description());
  }
  const bool has_fields =
      std::any_of(sources.begin(), sources.end(), [](const auto& s) { return s.json_lines; });
  return absl::StrCat("end of text ", options.end_of_text, ", prefix [",
                      absl::StrJoin(PrefixOf(tokenizer, options), " "), "]",
                      has_fields ? ", field \"" + options.documents.field + "\"" : "");
}

// All that determines the tokens besides the files' content. A field that no file has does not.
std::string SettingsText(const Tokenizer& tokenizer, const PrepareOptions& options,
                         const std::vector<PrepareSource>& sources) {
  return absl::StrCat("version ", kVersion, ", tokenizer ", tokenizer.Hash(), " of ",
                      tokenizer.vocab_size(), ", ", DocumentsText(tokenizer, options, sources),
                      options.documents.skip_bad_lines ? ", bad lines left out" : "",
                      ", tokens of a file ", options.max_file_tokens, ", ",
                      TokenizerLibraryVersions());
}

absl::Status CheckOptions(const Tokenizer& tokenizer, const PrepareOptions& options) {
  if (options.files.empty()) {
    return absl::InvalidArgumentError("the list of files to prepare is empty; name at least one");
  }
  if (options.end_of_text < -1 || options.end_of_text >= tokenizer.vocab_size()) {
    return absl::InvalidArgumentError(absl::StrCat("the end-of-text token ", options.end_of_text,
                                                   " is not below the tokenizer's vocabulary size ",
                                                   tokenizer.vocab_size()));
  }
  if (options.max_file_tokens >= 1 && options.max_file_tokens <= kMaxFileTokens) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      options.max_file_tokens, " tokens in a file are not from 1 to ", kMaxFileTokens));
}

absl::StatusOr<PrepareSource> DescribeTextSource(const std::string& path,
                                                 const PrepareOptions& options) {
  const bool json_lines = options.chat != nullptr || IsJsonLines(path, options.documents);
  STRAKE_ASSIGN_OR_RETURN(PrepareSource source, DescribeSource(path, json_lines));
  if (source.num_bytes <= 0) return source;
  STRAKE_ASSIGN_OR_RETURN(const ContentKind kind, ContentOfFile(path));
  if (kind.content == FileContent::kTokens || kind.content == FileContent::kOther) {
    return NotTextError(path, kind);
  }
  return source;
}

// Looks at each file, so that one that is missing or no text is found before the first is read.
absl::StatusOr<std::vector<PrepareSource>> DescribeSources(const PrepareOptions& options) {
  std::vector<PrepareSource> sources;
  for (const std::string& path : options.files) {
    auto source = DescribeTextSource(path, options);
    if (!source.ok()) return Named(options.names.files, source.status());
    sources.push_back(*std::move(source));
  }
  return sources;
}

bool IsFileOfSize(const std::string& path, int64_t size) {
  std::error_code error;
  return fs::file_size(path, error) == static_cast<uintmax_t>(size) && !error;
}

TokenEncoding EncodingFor(const Tokenizer& tokenizer) {
  return tokenizer.vocab_size() <= std::numeric_limits<uint16_t>::max() + 1
             ? TokenEncoding::kUint16
             : TokenEncoding::kUint32;
}

bool FilesAreThere(const std::string& directory, const PrepareRecord& record,
                   TokenEncoding encoding) {
  constexpr int64_t kHeaderBytes = 1024;
  const int64_t token_bytes = encoding == TokenEncoding::kUint16 ? 2 : 4;
  return std::all_of(record.files.begin(), record.files.end(), [&](const PrepareFile& file) {
    const std::string path = absl::StrCat(directory, "/", file.name);
    std::error_code error;
    return IsFileOfSize(path, kHeaderBytes + token_bytes * file.num_tokens) &&
           fs::is_regular_file(DocumentIndexPath(path), error) &&
           (file.num_answer_tokens < 0 || fs::is_regular_file(TargetRangesPath(path), error));
  });
}

PreparedTokens Summarize(const std::string& directory, const PrepareRecord& record) {
  PreparedTokens result;
  for (const PrepareFile& file : record.files) {
    result.token_files.push_back(absl::StrCat(directory, "/", file.name));
    result.num_tokens += file.num_tokens;
    result.num_documents += file.num_documents;
    result.num_text_bytes += file.num_text_bytes;
    result.num_answer_tokens += std::max<int64_t>(file.num_answer_tokens, 0);
  }
  for (const PrepareSource& source : record.sources) {
    result.num_bad_lines += source.num_bad_lines;
    result.num_empty_documents += source.num_empty_documents;
    if (result.first_bad_line.empty()) result.first_bad_line = source.first_bad_line;
  }
  return result;
}

absl::Status Refused(const absl::Status& status, const PrepareNames& names) {
  if (!absl::IsDataLoss(status) && !absl::IsFailedPrecondition(status)) return status;
  return absl::FailedPreconditionError(absl::StrCat(names.directory, ": ", status.message(),
                                                    "; choose another folder, or remove this one"));
}

absl::Status Damaged(const std::string& directory, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(directory, ": is damaged: ", what));
}

// The same where a file's content is what is wrong. Its advice is about a file by itself.
absl::Status DamagedBy(const std::string& directory, const absl::Status& status) {
  if (!absl::IsDataLoss(status) && !absl::IsInvalidArgument(status)) return status;
  const absl::string_view message = status.message();
  return Damaged(directory, message.substr(0, message.rfind(';')));
}

// An error of a source says nothing about the folder of its tokens.
absl::Status AboutSource(const absl::Status& status, const PrepareNames& names) {
  const absl::Status named = Named(names.files, status);
  if (!absl::IsDataLoss(named) && !absl::IsFailedPrecondition(named)) return named;
  return absl::AbortedError(named.message());
}

// The record of a directory if it is the result of an equal call; nothing if there is no directory,
// or an empty one. DataLoss for a damaged result, as far as its files' names and sizes tell, and
// FailedPrecondition for all else, both without advice.
absl::StatusOr<std::optional<PrepareRecord>> FindResult(const std::string& directory,
                                                        const std::string& settings,
                                                        const std::vector<PrepareSource>& sources,
                                                        TokenEncoding encoding,
                                                        const PrepareOptions& options) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(directory, error))) return std::nullopt;
  const auto refuse = [&](absl::string_view what) {
    return absl::FailedPreconditionError(absl::StrCat(directory, ": ", what));
  };
  if (!fs::is_directory(directory, error)) return refuse("is there, and is no folder");
  if (fs::is_empty(directory, error) && !error) return std::nullopt;
  auto read = ReadPrepareRecord(absl::StrCat(directory, "/", kFinishedRecord));
  if (!read.ok()) return DamagedBy(directory, read.status());
  const std::optional<PrepareRecord>& record = *read;
  if (!record.has_value()) return refuse("holds files that are no result of preparing tokens");
  if (record->settings != settings) {
    return refuse(absl::StrCat("was prepared with other settings (", record->settings,
                               "), and now they are (", settings, ")"));
  }
  const auto same = SameContent(record->sources, sources, options.stop_requested);
  if (!same.ok()) return AboutSource(same.status(), options.names);
  if (!*same) return refuse("was prepared from other files");
  if (!FilesAreThere(directory, *record, encoding)) return Damaged(directory, "it lacks tokens");
  return record;
}

// Whether a result's documents have the names that they would have now.
bool HasPaths(const std::string& directory, const std::vector<PrepareSource>& sources) {
  const auto record = ReadPrepareRecord(absl::StrCat(directory, "/", kFinishedRecord));
  return record.ok() && record->has_value() && SamePaths((*record)->sources, sources);
}

absl::Status CheckTargets(const std::string& directory, const PrepareFile& file) {
  if (file.num_answer_tokens < 0) return absl::OkStatus();
  const auto targets = ReadTargetRanges(absl::StrCat(directory, "/", file.name), file.num_tokens);
  if (!targets.ok()) return DamagedBy(directory, targets.status());
  if (targets->has_value() && (*targets)->num_targets() == file.num_answer_tokens) {
    return absl::OkStatus();
  }
  return Damaged(directory, file.name + " has other answers than when it was written");
}

// Reads what FindResult() found, as far as a run will: headers, tokens, documents, answers.
absl::Status CheckFiles(const std::string& directory, const PrepareRecord& record,
                        const Tokenizer& tokenizer) {
  for (const PrepareFile& file : record.files) {
    if (file.num_tokens == 0) continue;
    const std::string path = absl::StrCat(directory, "/", file.name);
    const auto tokens = TokenFile::Open(path, tokenizer.vocab_size());
    if (!tokens.ok()) return DamagedBy(directory, tokens.status());
    const auto index = ReadDocumentIndex(path, tokens->num_tokens());
    if (!index.ok()) return DamagedBy(directory, index.status());
    if (!index->has_value() || (*index)->tokenizer_hash != tokenizer.Hash()) {
      return Damaged(directory, file.name + " has no documents of its tokenizer");
    }
    STRAKE_RETURN_IF_ERROR(CheckTargets(directory, file));
  }
  return absl::OkStatus();
}

// The folder that the result will have, without a trailing slash or a symbolic link in it.
absl::StatusOr<std::string> TargetOf(const PrepareOptions& options) {
  const std::string& directory = options.directory;
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(directory, error), error);
  const std::string& name = options.names.directory;
  if (error) return Named(name, SystemError("find the folder", directory, error.value()));
  if (!path.has_filename()) path = path.parent_path();
  if (directory.empty() || !path.has_filename()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": \"", directory, "\" is no name for a folder of tokens"));
  }
  return path.string();
}

// The token files of one call: from batches to files, and a record after each file.
class Files {
 public:
  Files(const UnfinishedDirectory* place, const Tokenizer* tokenizer, const PrepareOptions* options,
        PrepareRecord record)
      : place_(place), tokenizer_(tokenizer), options_(options), record_(std::move(record)) {}

  absl::Status Add(const EncodedBatch& batch) { return NamedByKind(AddAll(batch)); }
  absl::Status Finish() { return NamedByKind(FinishAll()); }

  const PrepareRecord& record() const { return record_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_documents_; }

 private:
  // The text is what an argument can be wrong about; the rest is about writing.
  absl::Status NamedByKind(const absl::Status& status) const {
    const PrepareNames& names = options_->names;
    return Named(absl::IsInvalidArgument(status) ? names.files : names.directory, status);
  }

  absl::Status AddAll(const EncodedBatch& batch) {
    for (const auto& [number, source] : batch.ended_sources) record_.sources[number] = source;
    size_t begin = 0;
    for (const EncodedPiece& piece : batch.pieces) {
      const size_t num_tokens = piece.tokens_end - begin;
      const auto is_answer = absl::MakeConstSpan(batch.is_answer);
      STRAKE_RETURN_IF_ERROR(
          AddPiece(piece, absl::MakeConstSpan(batch.tokens).subspan(begin, num_tokens),
                   is_answer.empty() ? is_answer : is_answer.subspan(begin, num_tokens)));
      begin = piece.tokens_end;
    }
    return absl::OkStatus();
  }

  absl::Status FinishAll() {
    if (writer_.has_value()) STRAKE_RETURN_IF_ERROR(EndFile());
    if (record_.files.empty()) {
      const size_t more = options_->files.size() - 1;
      return absl::InvalidArgumentError(absl::StrCat(
          options_->files.front(), more == 0 ? "" : absl::StrCat(" and ", more, " more"),
          more == 0 ? ": holds no document" : ": hold no document"));
    }
    record_.next = {};
    return WritePrepareRecord(*place_ / kFinishedRecord, record_);
  }

  absl::Status AddPiece(const EncodedPiece& piece, absl::Span<const int32_t> tokens,
                        absl::Span<const uint8_t> is_answer) {
    const int64_t max_tokens =
        std::min<int64_t>(2 * options_->max_file_tokens, std::numeric_limits<int32_t>::max());
    record_.next = piece.position;
    if (writer_.has_value() && writer_->num_tokens() + tokens.size() > max_tokens) {
      STRAKE_RETURN_IF_ERROR(EndFile());
    }
    if (tokens.size() > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(absl::StrCat(
          record_.sources[piece.position.source].path, ": document ", piece.position.document,
          " has ", tokens.size(), " tokens, more than a file can count; split it"));
    }
    if (!writer_.has_value()) STRAKE_RETURN_IF_ERROR(BeginFile());
    if (piece.begins_document || writer_->num_tokens() == 0) AddDocument(piece);
    AddAnswers(is_answer);
    STRAKE_RETURN_IF_ERROR(writer_->Append(tokens));
    index_.num_text_bytes += static_cast<int64_t>(piece.num_text_bytes);
    num_tokens_ += tokens.size();
    if (piece.begins_document) ++num_documents_, ++file_.num_documents;
    record_.next = piece.ends_document
                       ? PreparePosition{piece.position.source, piece.position.document + 1, 0}
                       : PreparePosition{piece.position.source, piece.position.document,
                                         piece.position.piece + 1};
    const bool full = piece.ends_document && writer_->num_tokens() >= options_->max_file_tokens;
    return full ? EndFile() : absl::OkStatus();
  }

  absl::Status BeginFile() {
    file_ = {.name = TokenFileName(record_.files.size())};
    index_ = {};
    index_.tokenizer_hash = tokenizer_->Hash();
    index_.vocab_size = tokenizer_->vocab_size();
    index_.has_targets = options_->chat != nullptr;
    // Some formats write more after the token that ends an answer.
    index_.end_of_text = options_->chat == nullptr ? options_->end_of_text : -1;
    targets_ = {};
    last_source_ = -1;
    STRAKE_ASSIGN_OR_RETURN(
        writer_, TokenFileWriter::Create(*place_ / file_.name, EncodingFor(*tokenizer_)));
    return absl::OkStatus();
  }

  void AddDocument(const EncodedPiece& piece) {
    if (piece.position.source != last_source_) {
      last_source_ = piece.position.source;
      index_.sources.push_back(record_.sources[last_source_].path);
    }
    index_.documents.push_back({.begin = writer_->num_tokens(),
                                .offset = piece.offset,
                                .source = static_cast<int32_t>(index_.sources.size() - 1)});
  }

  // Adds the answers among tokens that are appended next.
  void AddAnswers(absl::Span<const uint8_t> is_answer) {
    std::vector<TokenRange>& ranges = targets_.ranges;
    for (size_t i = 0; i < is_answer.size(); ++i) {
      if (is_answer[i] == 0) continue;
      const int64_t token = writer_->num_tokens() + static_cast<int64_t>(i);
      if (ranges.empty() || ranges.back().end != token) ranges.push_back({token, token});
      ++ranges.back().end;
    }
  }

  absl::Status WriteTargets() {
    if (options_->chat == nullptr) return absl::OkStatus();
    targets_.num_tokens = file_.num_tokens;
    file_.num_answer_tokens = targets_.num_targets();
    return WriteTargetRanges(*place_ / file_.name, targets_);
  }

  // Completes the file. From now on a later call finds it finished.
  absl::Status EndFile() {
    index_.num_tokens = file_.num_tokens = writer_->num_tokens();
    file_.num_text_bytes = index_.num_text_bytes;
    STRAKE_RETURN_IF_ERROR(writer_->Finish());
    writer_.reset();
    STRAKE_RETURN_IF_ERROR(WriteDocumentIndex(*place_ / file_.name, index_));
    STRAKE_RETURN_IF_ERROR(WriteTargets());
    record_.files.push_back(file_);
    return WritePrepareRecord(*place_ / kProgressRecord, record_);
  }

  const UnfinishedDirectory* const place_;
  const Tokenizer* const tokenizer_;
  const PrepareOptions* const options_;
  PrepareRecord record_;
  std::optional<TokenFileWriter> writer_;
  PrepareFile file_;
  DocumentIndex index_;
  TargetRanges targets_;  // of conversations
  int64_t last_source_ = -1;
  int64_t num_tokens_ = 0, num_documents_ = 0;  // of this call
};

// What an earlier call left that this one can go on with; else a record without files.
PrepareRecord FindProgress(const UnfinishedDirectory& place, const std::string& settings,
                           const std::vector<PrepareSource>& sources, const Tokenizer& tokenizer) {
  const TokenEncoding encoding = EncodingFor(tokenizer);
  const auto record = ReadPrepareRecord(place / kProgressRecord);
  if (record.ok() && record->has_value() && (*record)->settings == settings &&
      SameFiles((*record)->sources, sources) && FilesAreThere(place.path(), **record, encoding) &&
      CheckFiles(place.path(), **record, tokenizer).ok()) {
    return **record;
  }
  return {.settings = settings, .sources = sources};
}

int64_t TotalBytes(const std::vector<PrepareSource>& sources) {
  int64_t total = 0;
  for (const PrepareSource& source : sources) {
    if (source.num_bytes < 0) return 0;
    total += source.num_bytes;
  }
  return total;
}

absl::Status EncodeAll(const Tokenizer& tokenizer, const PrepareOptions& options,
                       const std::function<absl::Status()>& poll, PreparedTokens resumed,
                       Files* files) {
  EncodeOptions encode = {.documents = options.documents,
                          .chat = options.chat,
                          .prefix = PrefixOf(tokenizer, options),
                          .num_threads = std::max(options.threads, 1)};
  if (options.end_of_text >= 0) encode.suffix = {options.end_of_text};
  const std::vector<PrepareSource> sources = files->record().sources;
  EncodePipeline pipeline(&tokenizer, sources, files->record().next, std::move(encode));
  PrepareOptions::Progress progress = {.bytes_in_all = TotalBytes(sources)};
  while (true) {
    const auto next = pipeline.Next(poll);
    if (!next.ok()) return Named(options.names.files, next.status());
    const EncodedBatch* const batch = *next;
    STRAKE_RETURN_IF_ERROR(batch == nullptr ? files->Finish() : files->Add(*batch));
    if (batch == nullptr) return absl::OkStatus();
    progress.bytes_read = batch->bytes_read;
    progress.bytes_resumed = batch->bytes_skipped;
    progress.tokens = resumed.num_tokens + files->num_tokens();
    progress.documents = resumed.num_documents + files->num_documents();
    if (options.on_progress) options.on_progress(progress);
    STRAKE_RETURN_IF_ERROR(poll());
  }
}

absl::StatusOr<PreparedTokens> PrepareIn(const UnfinishedDirectory& place,
                                         const Tokenizer& tokenizer, const PrepareOptions& options,
                                         PrepareRecord start, const std::string& target,
                                         const std::function<absl::Status()>& poll) {
  const std::string& name = options.names.directory;
  STRAKE_RETURN_IF_ERROR(Named(name, place.RemoveAllBut(start)));
  const PreparedTokens resumed = Summarize(target, start);
  Files files(&place, &tokenizer, &options, std::move(start));
  STRAKE_RETURN_IF_ERROR(EncodeAll(tokenizer, options, poll, resumed, &files));
  STRAKE_RETURN_IF_ERROR(Named(name, place.Finish(target)));
  PreparedTokens result = Summarize(target, files.record());
  result.num_resumed_tokens = resumed.num_tokens;
  return result;
}

// One call of PrepareTokens().
class PrepareCall {
 public:
  PrepareCall(const Tokenizer* tokenizer, const PrepareOptions* options, std::string target,
              std::vector<PrepareSource> sources)
      : tokenizer_(*tokenizer),
        options_(*options),
        target_(std::move(target)),
        sources_(std::move(sources)),
        settings_(SettingsText(tokenizer_, options_, sources_)) {}

  absl::StatusOr<PreparedTokens> Run() const {
    // Without the lock: where an equal call was, nothing is written.
    STRAKE_ASSIGN_OR_RETURN(const Found found, Find());
    if (found.result.has_value()) return *found.result;
    const auto place = UnfinishedDirectory::Open(target_, [this] { return Poll(); });
    if (!place.ok()) return Named(options_.names.directory, place.status());
    auto prepared = RunIn(*place);
    if (!prepared.ok() || prepared->reused) place->RemoveIfUseless();
    return prepared;
  }

 private:
  struct Found {
    std::optional<PreparedTokens> result = {};
    std::string damage = {};  // of a result that may be replaced
  };

  absl::StatusOr<PreparedTokens> RunIn(const UnfinishedDirectory& place) const {
    // Another process may have done it meanwhile.
    STRAKE_ASSIGN_OR_RETURN(const Found found, Find());
    if (found.result.has_value()) return *found.result;
    if (!found.damage.empty()) STRAKE_RETURN_IF_ERROR(Remove(found.damage));
    auto prepared =
        PrepareIn(place, tokenizer_, options_, FindProgress(place, settings_, sources_, tokenizer_),
                  target_, [this] { return Poll(); });
    if (prepared.ok()) prepared->replaced = found.damage;
    return prepared;
  }

  absl::StatusOr<Found> Find() const {
    const auto record = FindResult(target_, settings_, sources_, EncodingFor(tokenizer_), options_);
    if (record.ok() && !record->has_value()) return Found();
    const absl::Status status =
        record.ok() ? CheckFiles(target_, **record, tokenizer_) : record.status();
    if (!status.ok()) {
      const bool replaceable = absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
      if (!options_.replace_damaged || !replaceable) return Refused(status, options_.names);
      return Found{.damage = std::string(status.message())};
    }
    RemoveWorkFiles(target_);
    Found found = {.result = Summarize(target_, **record)};
    found.result->reused = true;
    return found;
  }

  absl::Status Remove(const std::string& damage) const {
    const absl::StatusOr<bool> removed = RemoveResult(target_);
    if (!removed.ok()) return Named(options_.names.directory, removed.status());
    return *removed ? absl::OkStatus() : Refused(absl::DataLossError(damage), options_.names);
  }

  absl::Status Poll() const {
    return options_.stop_requested && options_.stop_requested()
               ? absl::CancelledError(absl::StrCat(
                     target_,
                     ": stopped; token files that are finished are kept for the next time"))
               : absl::OkStatus();
  }

  const Tokenizer& tokenizer_;
  const PrepareOptions& options_;
  const std::string target_;
  const std::vector<PrepareSource> sources_;
  const std::string settings_;
};

}  // namespace

absl::StatusOr<PreparedTokens> PrepareTokens(const Tokenizer& tokenizer,
                                             const PrepareOptions& options) {
  STRAKE_RETURN_IF_ERROR(CheckOptions(tokenizer, options));
  STRAKE_ASSIGN_OR_RETURN(const std::string target, TargetOf(options));
  STRAKE_ASSIGN_OR_RETURN(std::vector<PrepareSource> sources, DescribeSources(options));
  return PrepareCall(&tokenizer, &options, target, std::move(sources)).Run();
}

absl::StatusOr<std::string> PreparedDirectory(const std::string& cache, const Tokenizer& tokenizer,
                                              const PrepareOptions& options) {
  STRAKE_RETURN_IF_ERROR(CheckOptions(tokenizer, options));
  STRAKE_ASSIGN_OR_RETURN(const std::vector<PrepareSource> sources, DescribeSources(options));
  const std::string settings = SettingsText(tokenizer, options, sources);
  std::string key = settings;
  for (const PrepareSource& source : sources) {
    if (source.num_bytes < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(options.names.files, ": ", source.path,
                       ": cannot be read again, and so not be prepared into a cache; prepare its "
                       "tokens into a folder, or copy it to a file"));
    }
    absl::StrAppend(&key, "\n", source.path, "\n", source.json_lines, " ", source.num_bytes, " ",
                    source.modified_ns, " ", source.changed_ns, " ", source.inode);
  }
  const std::string own = absl::StrCat(cache, "/", absl::Hex(StableHash(key), absl::kZeroPad16));
  const auto find = [&](const std::string& directory) {
    return FindResult(directory, settings, sources, EncodingFor(tokenizer), options);
  };
  // PrepareTokens() reads this one's files, and may replace them.
  const auto found_own = find(own);
  if (absl::IsCancelled(found_own.status())) return found_own.status();
  if (found_own.ok() && found_own->has_value()) return own;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    const std::string directory = entry.path().string();
    if (IsUnfinishedDirectory(directory) || !HasPaths(directory, sources)) continue;
    const auto found = find(directory);
    if (absl::IsCancelled(found.status())) return found.status();
    if (!found.ok() || !found->has_value()) continue;
    if (CheckFiles(directory, **found, tokenizer).ok()) return directory;
  }
  return own;
}

}  // namespace strake
