#include "train/run/training_data.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/format_quantity.h"
#include "core/base/name_error.h"
#include "core/base/printable.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor_buffer.h"
#include "data/blend.h"
#include "data/document_index.h"
#include "data/document_list.h"
#include "data/document_places.h"
#include "data/text/line_reader.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "glog/logging.h"
#include "train/run/data_content.h"

namespace strake {
namespace {

// A list may name every document.
constexpr int64_t kMaxListBytes = std::numeric_limits<int64_t>::max();

// What text files may be.
enum class TextRule {
  kOfByteModels,  // text of a model of bytes alone
  kOfAnyModel,    // text, which any model reads as bytes
  kUnchecked,
};

// Returns an error for a file whose bytes would be no text, or that of another model. TokenFile's
// Open() tells of files that cannot be read.
absl::Status CheckContent(const std::string& file, TextRule rule, const TrainerOptions& options) {
  if (absl::EndsWith(file, ".bin")) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const std::optional<ContentKind> kind, TextContentOf(file));
  if (!kind.has_value()) return absl::OkStatus();
  if (kind->content != FileContent::kText) return NotTextError("data file " + file, *kind);
  const int64_t vocab_size = options.engine.model.vocab_size;
  if (vocab_size == kByteVocabSize || rule == TextRule::kOfAnyModel) return absl::OkStatus();
  return TextForTokensError(file, vocab_size, "; give token files");
}

absl::StatusOr<TokenStream> OpenStream(const std::string& name,
                                       const std::vector<std::string>& files, TextRule rule,
                                       const TrainerOptions& options) {
  for (const std::string& file : files) {
    if (rule == TextRule::kUnchecked) break;
    const absl::Status content = CheckContent(file, rule, options);
    if (!content.ok()) return NameError(name, content);
  }
  return NameError(name, TokenStream::Open(files, options.engine.model.vocab_size));
}

// "train_files (books)", or "train_files" without a name.
std::string NameOf(const std::string& option, const std::string& name) {
  return absl::StrCat(option, name.empty() ? "" : absl::StrCat(" (", name, ")"));
}

// Where the file of a token of the stream begins, and which it is.
std::pair<const TokenFile&, int64_t> FileOf(const TokenStream& stream, int64_t token) {
  int64_t begin = 0;
  for (const TokenFile& file : stream.files()) {
    if (token < begin + file.num_tokens()) return {file, begin};
    begin += file.num_tokens();
  }
  LOG(FATAL) << "[training_data] token " << token << " of " << begin;
}

// "line 12 of a.jsonl", or "byte 1234 of a.jsonl" where the file is no longer there to count lines.
std::string PlaceInText(const std::string& path, int64_t offset) {
  const std::optional<int64_t> line = LineAt(path, offset);
  return line.has_value() ? absl::StrCat("line ", *line, " of ", path)
                          : absl::StrCat("byte ", offset, " of ", path);
}

// The place in its text, where the index is known, of the document that begins at token `begin` of
// a token file.
std::string PlaceOf(const TokenFile& file, int64_t begin) {
  const auto index = ReadDocumentIndex(file.path(), file.num_tokens());
  if (!index.ok() || !index->has_value()) return absl::StrCat("token ", begin, " of ", file.path());
  for (const DocumentIndex::Document& document : (*index)->documents) {
    if (document.begin != begin) continue;
    return PlaceInText((*index)->sources[document.source], document.offset);
  }
  return absl::StrCat("token ", begin, " of ", file.path());
}

// "train_files=a.txt and 3 more".
std::string NameAndFiles(const std::string& name, const std::vector<std::string>& files) {
  return absl::StrCat(name, "=", files.front(),
                      files.size() > 1 ? absl::StrCat(" and ", files.size() - 1, " more") : "");
}

// The file of a token of the stream, and the text that it was made of where that is known.
std::string NameOfFileAt(const TokenStream& stream, int64_t token) {
  const std::string& path = FileOf(stream, token).first.path();
  const auto parts = DocumentPlaces(&stream).PartsOf({token, token + 1});
  if (!parts.ok() || parts->front().name.path == path) return path;
  return absl::StrCat(path, " (of ", parts->front().name.path, ")");
}

absl::Status BothKindsError(const TokenStream& stream, int64_t chat, int64_t text) {
  return absl::InvalidArgumentError(absl::StrCat(
      NameOfFileAt(stream, chat), " holds conversations, and ", NameOfFileAt(stream, text),
      " holds other text: keep them apart, each with its own kind"));
}

// What the first document is called, for an error of one that is not there.
std::string NameOfFirst(const TokenStream& stream) {
  const auto parts = DocumentPlaces(&stream).PartsOf({0, 1});
  if (!parts.ok()) return "";
  const DocumentTokens& first = parts->front();
  return first.is_known
             ? "; its first is called " + ToListLine(first.name)
             : absl::StrCat("; those of ", first.name.path, " are not known, for it has no index");
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingData>> TrainingData::Open(const TrainerOptions& options,
                                                                 const DataOrigin& origin) {
  std::unique_ptr<TrainingData> data(new TrainingData());
  data->rules_ = origin.rules;
  data->tokenizer_ = origin.tokenizer;
  data->prepared_ = origin.prepared;
  data->label_ = origin.label.empty() ? LabelOf(options) : origin.label;
  data->max_fingerprint_tokens_ = options.data_fingerprint_tokens;
  data->names_ = options.names;
  data->documents_ = options.documents;
  data->truncate_ = options.truncate;
  data->vocab_size_ = options.engine.model.vocab_size;
  STRAKE_RETURN_IF_ERROR(data->OpenStreams(options));
  STRAKE_RETURN_IF_ERROR(data->Split(options));
  STRAKE_RETURN_IF_ERROR(data->SkipDocuments(options));
  STRAKE_RETURN_IF_ERROR(data->MakeLoaders(options));
  return data;
}

absl::Status TrainingData::OpenTrainParts(const TrainerOptions& options) {
  const std::string& option = options.names.train_files;
  if (options.train_sources.empty()) {
    train_.push_back({.option = option, .files = options.train_files});
  }
  for (const TrainingSource& source : options.train_sources) {
    train_.push_back({.option = NameOf(option, source.name), .files = source.files});
    source_names_.push_back(source.name);
  }
  const TextRule rule =
      rules_ == DataRules::kBytesAndEnd ? TextRule::kUnchecked : TextRule::kOfByteModels;
  for (TrainPart& part : train_) {
    STRAKE_ASSIGN_OR_RETURN(part.stream, OpenStream(part.option, part.files, rule, options));
  }
  return absl::OkStatus();
}

absl::Status TrainingData::OpenStreams(const TrainerOptions& options) {
  STRAKE_RETURN_IF_ERROR(OpenTrainParts(options));
  const bool earlier = rules_ == DataRules::kBytesAndEnd;
  // A run of an earlier version may read text as bytes that are not those of its tokenizer.
  if (is_text()) tokenizer_ = nullptr;
  const TextRule val_rule = earlier && is_text() ? TextRule::kOfAnyModel : TextRule::kOfByteModels;
  for (TrainPart& part : train_) {
    const bool read_indices = !earlier || documents_ != DocumentMode::kConcat;
    STRAKE_ASSIGN_OR_RETURN(part.documents,
                            NameError(part.option, ReadDocuments(*part.stream, read_indices)));
    if (earlier) continue;
    STRAKE_ASSIGN_OR_RETURN(part.targets,
                            NameError(part.option, ReadTargets(*part.stream, &part.documents)));
  }
  for (const ValidationSet& set : options.val_sets) {
    const std::string option = NameOf(options.names.val_files, set.name);
    validation_.push_back({.name = set.name});
    STRAKE_ASSIGN_OR_RETURN(validation_.back().stream,
                            OpenStream(option, set.files, val_rule, options));
    ValidationData& data = validation_.back();
    STRAKE_ASSIGN_OR_RETURN(data.documents,
                            NameError(option, ReadDocuments(*data.stream, /*read_indices=*/true)));
    STRAKE_ASSIGN_OR_RETURN(data.targets,
                            NameError(option, ReadTargets(*data.stream, &data.documents)));
  }
  return absl::OkStatus();
}

// Reads where documents begin, and checks that the tokens are the model's.
absl::StatusOr<std::vector<FileDocuments>> TrainingData::ReadDocuments(const TokenStream& stream,
                                                                       bool read_indices) {
  std::vector<FileDocuments> documents;
  std::string last_source;  // of the file before
  for (const TokenFile& file : stream.files()) {
    documents.push_back({.num_tokens = file.num_tokens()});
    // A text is one document.
    if (file.encoding() == TokenEncoding::kBytes) documents.back().begins = {0};
    if (file.encoding() == TokenEncoding::kBytes || !read_indices) continue;
    STRAKE_ASSIGN_OR_RETURN(const std::optional<DocumentIndex> index,
                            ReadDocumentIndex(file.path(), file.num_tokens()));
    const std::string source_before = std::exchange(last_source, "");
    if (!index.has_value()) continue;
    STRAKE_RETURN_IF_ERROR(CheckTokenizer(file.path(), *index));
    FileDocuments& of_file = documents.back();
    if (index->documents.empty()) continue;
    of_file.sources.clear();
    int32_t source = index->sources[0] == source_before ? 0 : -1;
    for (const DocumentIndex::Document& document : index->documents) {
      of_file.begins.push_back(document.begin);
      if (document.source != source) of_file.sources.push_back(document.begin);
      source = document.source;
    }
    last_source = index->sources[source];
  }
  return documents;
}

// Returns nothing where no file says what is to be learnt, and an error where one does not and
// another does. Files without tokens are of either kind.
absl::StatusOr<std::optional<TargetRanges>> TrainingData::ReadTargets(
    const TokenStream& stream, std::vector<FileDocuments>* documents) {
  TargetRanges all = {.num_tokens = stream.num_tokens()};
  std::optional<int64_t> first_chat, first_text;  // tokens of the stream
  int64_t begin = 0;
  for (size_t i = 0; i < stream.files().size(); ++i) {
    const TokenFile& file = stream.files()[i];
    if (file.num_tokens() == 0) continue;
    std::optional<TargetRanges> targets;
    if (file.encoding() != TokenEncoding::kBytes) {
      STRAKE_ASSIGN_OR_RETURN(targets, ReadTargetRanges(file.path(), file.num_tokens()));
    }
    std::optional<int64_t>& first = targets.has_value() ? first_chat : first_text;
    first = first.value_or(begin);
    if (first_chat.has_value() && first_text.has_value()) {
      return BothKindsError(stream, *first_chat, *first_text);
    }
    (*documents)[i].whole = targets.has_value();
    for (const TokenRange& range : targets.value_or(TargetRanges()).ranges) {
      all.ranges.push_back({begin + range.begin, begin + range.end});
    }
    begin += file.num_tokens();
  }
  if (!first_chat.has_value()) return std::nullopt;
  return all;
}

DocumentMode TrainingData::ModeOf(const std::optional<TargetRanges>& targets) const {
  return targets && documents_ == DocumentMode::kConcat ? DocumentMode::kMask : documents_;
}

// Whether samples are parts of a stream, which must be long enough for one.
bool TrainingData::IsStream(const std::optional<TargetRanges>& targets) const {
  return documents_ != DocumentMode::kPad && !targets.has_value();
}

absl::Status TrainingData::CheckTokenizer(const std::string& path, const DocumentIndex& index) {
  if (index.vocab_size > vocab_size_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "data file ", path, ": was prepared with a tokenizer of ", index.vocab_size,
        " tokens, and the model has ", vocab_size_, "; prepare it with the model's tokenizer"));
  }
  if (tokenizer_hash_.empty()) {
    tokenizer_hash_ = tokenizer_ != nullptr ? tokenizer_->Hash() : index.tokenizer_hash;
    tokenizer_of_ = tokenizer_ != nullptr ? "the model's" : "that of " + path;
  }
  if (index.tokenizer_hash == tokenizer_hash_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "data file ", path, ": was prepared with another tokenizer (", index.tokenizer_hash,
      ") than ", tokenizer_of_, " (", tokenizer_hash_, "); prepare all files with the model's"));
}

absl::Status TrainingData::SplitPart(const TrainerOptions& options, TrainPart* part) const {
  const int64_t num_tokens = part->stream->num_tokens();
  const bool is_stream = IsStream(part->targets);
  const int64_t seq_len = is_stream ? options.engine.seq_len : 0;
  const auto fail = [&](const absl::Status& status, const std::string& more) {
    return absl::Status(status.code(), absl::StrCat(NameAndFiles(part->option, part->files), more,
                                                    ": ", status.message()));
  };
  if (validation_.empty()) {
    auto split = rules_ == DataRules::kDocuments
                     ? SplitDocuments(part->documents, options.seed, seq_len)
                     : SplitTrainVal(num_tokens, std::nullopt, seq_len);
    if (!split.ok()) return fail(split.status(), "");
    part->split = *std::move(split);
  }
  for (size_t i = 0; i < validation_.size(); ++i) {
    const bool both = is_stream && IsStream(validation_[i].targets);
    auto split = SplitTrainVal(num_tokens, validation_[i].stream->num_tokens(), both ? seq_len : 0);
    const ValidationSet& set = options.val_sets[i];
    if (!split.ok()) {
      return fail(split.status(),
                  " " + NameAndFiles(NameOf(options.names.val_files, set.name), set.files));
    }
    part->split = *std::move(split);
  }
  return absl::OkStatus();
}

absl::Status TrainingData::Split(const TrainerOptions& options) {
  for (TrainPart& part : train_) STRAKE_RETURN_IF_ERROR(SplitPart(options, &part));
  // Where both rules give the same, earlier versions can go on with the run.
  const bool same = source_names_.empty() && train_[0].split.holds_back_the_end &&
                    ModeOf(train_[0].targets) == DocumentMode::kConcat;
  if (same && !prepared_) rules_ = DataRules::kBytesAndEnd;
  return absl::OkStatus();
}

// Tells of the documents of a list that are validation data as a whole.
void TrainingData::NoteHeldBack(const std::vector<TokenRange>& listed, const TrainPart& part) {
  const std::vector<TokenRange>& val = part.split.val.ranges();
  const int64_t held_back = std::count_if(listed.begin(), listed.end(), [&](const TokenRange& r) {
    const auto at = std::partition_point(val.begin(), val.end(),
                                         [&](const TokenRange& v) { return v.end <= r.begin; });
    return r.num_tokens() > 0 && at != val.end() && at->begin <= r.begin;
  });
  if (held_back == 0) return;
  notes_.push_back(absl::StrCat(names_.skip_data, ": ", held_back, " of ", listed.size(),
                                " listed ", Plural(listed.size(), "document"), " of ",
                                NameAndFiles(part.option, part.files), " ",
                                held_back == 1 ? "is held back for validation, and stays there"
                                               : "are held back for validation, and stay there"));
}

// Takes a list's documents out of what is trained on.
absl::Status TrainingData::SkipDocumentsOf(const std::vector<ListedDocument>& list,
                                           std::vector<bool>* found, TrainPart* part) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<TokenRange> skipped,
                          NameError(part->option, FindDocuments(*part->stream, list, found)));
  if (validation_.empty()) NoteHeldBack(skipped, *part);
  TokenRanges& train = part->split.train;
  const int64_t num_tokens = train.num_tokens();
  train = Without(train, skipped);
  part->num_skipped = num_tokens - train.num_tokens();
  return absl::OkStatus();
}

absl::Status TrainingData::SkipDocuments(const TrainerOptions& options) {
  if (options.skip_data.empty()) return absl::OkStatus();
  const std::string name = absl::StrCat(names_.skip_data, "=", options.skip_data);
  STRAKE_ASSIGN_OR_RETURN(const std::string text,
                          NameError(names_.skip_data, ReadFile(options.skip_data, kMaxListBytes)));
  STRAKE_ASSIGN_OR_RETURN(const std::vector<ListedDocument> list, ParseDocumentList(text, name));
  std::vector<bool> found(list.size());
  for (TrainPart& part : train_) {
    STRAKE_RETURN_IF_ERROR(SkipDocumentsOf(list, &found, &part));
    if (part.split.train.num_tokens() > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(name, ": leaves nothing to train on of ",
                                                   NameAndFiles(part.option, part.files)));
  }
  const size_t missing = std::find(found.begin(), found.end(), false) - found.begin();
  if (missing < list.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": line ", list[missing].line, ": the training data has no document ",
                     ToListLine(list[missing].name), NameOfFirst(*train_[0].stream)));
  }
  if (num_skipped_tokens() == 0) return absl::OkStatus();
  notes_.push_back(absl::StrCat(name, ": ", num_skipped_tokens(), " tokens are not trained on"));
  // Earlier versions would not leave them out.
  rules_ = DataRules::kDocuments;
  return absl::OkStatus();
}

int64_t TrainingData::num_skipped_tokens() const {
  int64_t sum = 0;
  for (const TrainPart& part : train_) sum += part.num_skipped;
  return sum;
}

// In the stream.
absl::StatusOr<std::vector<int64_t>> TrainingData::DocumentBegins(const LoaderData& data) const {
  std::vector<int64_t> begins;
  int64_t file_begin = 0;
  for (size_t i = 0; i < data.documents.size(); ++i) {
    const FileDocuments& documents = data.documents[i];
    const std::string& path = data.stream.files()[i].path();
    if (documents.begins.empty() && documents.num_tokens > 0) {
      const std::string mode = absl::StrCat(names_.documents, "=", DocumentModeName(documents_));
      const std::string concat = absl::StrCat(", or ", names_.documents, "=concat");
      return absl::InvalidArgumentError(
          absl::StrCat(data.name, ": where the documents of ", path,
                       " begin is not known, for there is no ", DocumentIndexPath(path), ", and ",
                       data.targets ? "conversations need it" : mode + " needs it",
                       ": give the text, from which it is made", data.targets ? "" : concat));
    }
    begins.push_back(file_begin);
    for (const int64_t begin : documents.begins) {
      if (begin > 0) begins.push_back(file_begin + begin);
    }
    file_begin += documents.num_tokens;
  }
  return begins;
}

absl::Status TrainingData::CheckLengths(const LoaderData& data, const std::vector<int64_t>& begins,
                                        int64_t seq_len) const {
  const auto found = DataLoader::FindLongDocuments(data.ranges, begins, seq_len);
  if (found.count == 0) return absl::OkStatus();
  const auto [file, file_begin] = FileOf(data.stream, found.first.begin);
  return absl::InvalidArgumentError(absl::StrCat(
      data.name, ": the conversation at ", PlaceOf(file, found.first.begin - file_begin), " has ",
      found.first.num_tokens(), " tokens, more than the ", seq_len, " of a sequence, as ",
      found.count, " of ", found.of, " have; use longer sequences, or ", names_.truncate,
      ", which cuts them"));
}

void TrainingData::NoteCut(const LoaderData& data, const std::vector<int64_t>& begins,
                           int64_t seq_len) {
  const auto cut = DataLoader::FindLongDocuments(data.ranges, begins, seq_len);
  if (cut.count == 0) return;
  notes_.push_back(absl::StrCat(data.name, ": ", names_.truncate, " cuts ", cut.count, " of ",
                                cut.of, " ", Plural(cut.of, "conversation"), ", and with them ",
                                cut.num_beyond, " of ", data.ranges.num_tokens(), " tokens"));
}

absl::StatusOr<DataLoader> TrainingData::MakeLoader(const LoaderData& data,
                                                    DataLoader::Options options) {
  options.documents = ModeOf(data.targets);
  options.truncate = truncate_;
  StreamDocuments documents = {.targets = data.targets};
  if (options.documents != DocumentMode::kConcat) {
    STRAKE_ASSIGN_OR_RETURN(documents.begins, DocumentBegins(data));
  }
  if (data.targets.has_value() && !truncate_) {
    STRAKE_RETURN_IF_ERROR(CheckLengths(data, documents.begins, options.seq_len));
  } else if (data.targets.has_value()) {
    NoteCut(data, documents.begins, options.seq_len);
  }
  auto loader = DataLoader::Create(&data.stream, data.ranges, options, documents);
  if (!loader.ok()) return NameError(data.name, loader.status());
  if (const int64_t dropped = loader->rows().num_dropped(); dropped > 0) {
    warnings_.push_back(absl::StrCat(data.name, ": ", dropped, " ", Plural(dropped, "conversation"),
                                     " with nothing to learn in ", options.seq_len, " tokens ",
                                     dropped == 1 ? "is" : "are", " left out"));
  }
  return loader;
}

absl::Status TrainingData::MakeTrainLoader(const TrainerOptions& options) {
  std::vector<DataLoader> loaders;
  for (const TrainPart& part : train_) {
    // Sources of one size take other orders.
    const uint64_t seed = options.seed + loaders.size();
    const LoaderData data = {NameAndFiles(part.option, part.files), *part.stream, part.split.train,
                             part.documents, part.targets};
    STRAKE_ASSIGN_OR_RETURN(DataLoader loader, MakeLoader(data, {.seq_len = options.engine.seq_len,
                                                                 .seed = seed,
                                                                 .shuffle = options.shuffle}));
    loaders.push_back(std::move(loader));
  }
  if (source_names_.empty()) {
    train_loader_.emplace(std::move(loaders[0]));
    return absl::OkStatus();
  }
  STRAKE_ASSIGN_OR_RETURN(Blend blend, Blend::Create(BlendSourcesOf(options)));
  train_loader_.emplace(std::move(blend), std::move(loaders));
  return absl::OkStatus();
}

absl::Status TrainingData::MakeLoaders(const TrainerOptions& options) {
  STRAKE_RETURN_IF_ERROR(MakeTrainLoader(options));
  const int64_t seq_len = options.engine.seq_len;
  for (size_t i = 0; i < validation_.size(); ++i) {
    ValidationData& validation = validation_[i];
    const TokenRanges all({{0, validation.stream->num_tokens()}});
    const LoaderData data = {NameOf(names_.val_files, validation.name), *validation.stream, all,
                             validation.documents, validation.targets};
    STRAKE_ASSIGN_OR_RETURN(validation.loader,
                            MakeLoader(data, {.seq_len = seq_len, .shuffle = false}));
    validation.documents = {};
    validation.targets.reset();
  }
  if (validation_.empty()) STRAKE_RETURN_IF_ERROR(MakeHeldBackLoaders(options));
  for (TrainPart& part : train_) {
    part.documents = {};
    part.targets.reset();
  }
  return absl::OkStatus();
}

absl::Status TrainingData::MakeHeldBackLoaders(const TrainerOptions& options) {
  for (size_t i = 0; i < train_.size(); ++i) {
    const TrainPart& part = train_[i];
    const bool shuffle = !part.split.holds_back_the_end;
    validation_.push_back(
        {.name = source_names_.empty() ? "" : source_names_[i], .source = static_cast<int>(i)});
    const LoaderData data = {"what is held back of " + NameAndFiles(part.option, part.files),
                             *part.stream, part.split.val, part.documents, part.targets};
    STRAKE_ASSIGN_OR_RETURN(validation_.back().loader,
                            MakeLoader(data, {.seq_len = options.engine.seq_len,
                                              .seed = static_cast<uint64_t>(options.seed),
                                              .shuffle = shuffle}));
  }
  return absl::OkStatus();
}

DocumentMode TrainingData::documents() const {
  for (int i = 0; i < train_loader_->num_sources(); ++i) {
    const DocumentMode mode = train_loader_->loader(i).options().documents;
    if (mode == DocumentMode::kConcat) return mode;
  }
  return train_loader_->loader(0).options().documents;
}

bool TrainingData::has_documents() const {
  return train_loader_->has_documents() ||
         std::any_of(validation_.begin(), validation_.end(), [](const ValidationData& validation) {
           return validation.loader->options().documents != DocumentMode::kConcat;
         });
}

double TrainingData::Epochs(const TrainerOptions& options, int source) const {
  const double steps = static_cast<double>(options.schedule.total_steps);
  const double samples = std::min(0x1p62, steps * static_cast<double>(options.global_batch));
  return train_loader_->Epochs(source, static_cast<int64_t>(samples));
}

int64_t TrainingData::num_train_tokens() const {
  int64_t sum = 0;
  for (const TrainPart& part : train_) sum += part.split.train.num_tokens();
  return sum;
}

std::string TrainingData::Summary() const {
  return absl::StrCat(Label(), ": ", FormatCount(static_cast<double>(num_train_tokens())),
                      " tokens to train on, ", FormatCount(static_cast<double>(num_val_tokens())),
                      " to validate on");
}

int64_t TrainingData::num_val_tokens() const {
  int64_t sum = 0;
  for (const ValidationData& validation : validation_) {
    sum += validation.stream ? validation.stream->num_tokens()
                             : train_[validation.source].split.val.num_tokens();
  }
  return sum;
}

std::vector<std::string> TrainingData::WarningsOfFiles(const TrainerOptions& options) {
  const OptionNames& names = options.names;
  std::vector<std::string> warnings;
  std::map<std::string, std::string> trained_on;  // files, and the first option that has them
  std::error_code error;
  for (const std::string& file : options.train_files) {
    trained_on.emplace(std::filesystem::weakly_canonical(file, error), names.train_files);
  }
  for (const TrainingSource& source : options.train_sources) {
    const std::string option = NameOf(names.train_files, source.name);
    for (const std::string& file : source.files) {
      const auto [first, is_new] =
          trained_on.emplace(std::filesystem::weakly_canonical(file, error), option);
      if (is_new || first->second == option) continue;
      warnings.push_back(absl::StrCat(file, " is in ", first->second, " and in ", option,
                                      ": what one holds back the other may train on"));
    }
  }
  for (const ValidationSet& set : options.val_sets) {
    for (const std::string& file : set.files) {
      const auto found = trained_on.find(std::filesystem::weakly_canonical(file, error));
      if (found == trained_on.end()) continue;
      warnings.push_back(absl::StrCat(file, " is in ", found->second, " and in ", names.val_files,
                                      ": the validation loss will be of text that was trained on"));
    }
  }
  return warnings;
}

std::vector<std::string> TrainingData::Warnings() const {
  std::vector<std::string> warnings = warnings_;
  if (is_text() && !is_of_bytes()) {
    warnings.push_back(absl::StrCat(
        names_.train_files, " is read as bytes, as when the run began, though the model has ",
        vocab_size_, " tokens"));
  }
  return warnings;
}

std::string TrainingData::LabelOf(const TrainerOptions& options) {
  const std::vector<std::string>& files = options.train_files;
  if (!options.train_sources.empty()) {
    return absl::StrCat(options.train_sources.size(), " ",
                        Plural(options.train_sources.size(), "source"));
  }
  if (files.size() == 1) return std::filesystem::path(files.front()).filename();
  return absl::StrCat(files.size(), " files");
}

std::string TrainingData::FingerprintOf(bool all_tokens, ThreadTeam& team) const {
  int source = 0;
  const auto of_part = [&](std::string* text, const TrainPart& part) {
    const TokenRanges& train = part.split.train;
    absl::StrAppend(text, all_tokens ? part.stream->AllTokens(team).ToString()
                                     : absl::StrFormat("%016x", part.stream->SampledTokens()));
    if (part.split.holds_back_the_end && part.num_skipped == 0) {
      absl::StrAppend(text, ", tokens 0 to ", train.num_tokens());
    } else {
      absl::StrAppendFormat(text, ", %d tokens in %d ranges, %016x", train.num_tokens(),
                            train.ranges().size(), train.Hash());
    }
    if (part.num_skipped > 0) absl::StrAppend(text, ", ", part.num_skipped, " skipped");
    const uint64_t documents = train_loader_->loader(source++).rows().Hash();
    if (documents != 0) absl::StrAppendFormat(text, ", documents %016x", documents);
  };
  return absl::StrJoin(train_, "; ", of_part);
}

bool TrainingData::all_tokens_count() const {
  int64_t num_tokens = 0;
  for (const TrainPart& part : train_) num_tokens += part.stream->num_tokens();
  return num_tokens <= max_fingerprint_tokens_;
}

std::string TrainingData::Fingerprint(ThreadTeam& team) const {
  return FingerprintOf(all_tokens_count(), team);
}

std::string TrainingData::FingerprintLike(const std::string& recorded, ThreadTeam& team) const {
  constexpr size_t kDigitsOfSamples = 16;
  return FingerprintOf(recorded.find(',') != kDigitsOfSamples, team);
}

int64_t TrainingData::TimeOfSampledFiles() const {
  int64_t newest = 0;
  if (all_tokens_count()) return newest;
  for (const TrainPart& part : train_) {
    for (const TokenFile& file : part.stream->files()) {
      struct stat info;
      if (stat(file.path().c_str(), &info) == 0) {
        newest = std::max<int64_t>(newest, info.st_mtim.tv_sec);
      }
    }
  }
  return newest;
}

absl::StatusOr<std::vector<int32_t>> TrainingData::FirstValTokens(int64_t count) const {
  const ValidationData& first = validation_.front();
  const TrainPart& part = train_[first.source];
  count = std::min(count, first.stream ? first.stream->num_tokens() : part.split.val.num_tokens());
  std::vector<int32_t> tokens(count);
  STRAKE_RETURN_IF_ERROR(first.stream ? first.stream->Read(0, count, tokens.data())
                                      : part.split.val.Read(*part.stream, 0, count, tokens.data()));
  return tokens;
}

bool TrainingData::is_text() const {
  for (const TrainPart& part : train_) {
    for (const TokenFile& file : part.stream->files()) {
      if (file.encoding() != TokenEncoding::kBytes) return false;
    }
  }
  return true;
}

// Text that was prepared without a tokenizer is bytes.
bool TrainingData::is_of_bytes() const {
  return vocab_size_ == kByteVocabSize && tokenizer_ == nullptr && (is_text() || prepared_);
}

std::string TrainingData::ToText(const std::vector<int32_t>& tokens,
                                 const std::vector<int32_t>& before) const {
  std::string text;
  if (tokenizer_ != nullptr) {
    StreamDecoder decoder(tokenizer_, /*skip_special=*/false);
    // A blank at the beginning of a text may mean nothing, and one within it does.
    for (const int32_t token : before) decoder.Add(token);
    for (const int32_t token : tokens) text += decoder.Add(token);
    return PrintableLines(text + decoder.End());
  }
  if (!has_text()) {
    for (const int32_t token : tokens) absl::StrAppend(&text, text.empty() ? "" : " ", token);
    return text;
  }
  for (const int32_t token : tokens) {
    // With a vocabulary above 256, there are tokens that are no bytes.
    if (token > 0xff) {
      absl::StrAppendFormat(&text, "\\x%02x", token);
    } else {
      text.push_back(static_cast<char>(token));
    }
  }
  return PrintableLines(text);
}

absl::StatusOr<int64_t> TrainingData::NumTargetBytes(const ValidationData& validation,
                                                     int64_t num_samples) const {
  const int64_t seq_len = validation.loader->options().seq_len;
  if (is_of_bytes()) return validation.loader->NumTargets(0, num_samples);
  int64_t num_bytes = 0;
  if (tokenizer_ == nullptr) return num_bytes;
  const TensorBuffer tokens(DType::kI32, {seq_len}), targets(DType::kI32, {seq_len}),
      positions(DType::kI32, {seq_len});
  TokenBatch batch = {.tokens = tokens, .targets = targets, .positions = positions};
  for (int64_t i = 0; i < num_samples; ++i) {
    STRAKE_RETURN_IF_ERROR(validation.loader->Load(i, 1, &batch));
    const int32_t* target = targets.tensor().data<int32_t>();
    for (int64_t t = 0; t < seq_len; ++t) {
      if (target[t] != kNoTarget) num_bytes += tokenizer_->NumBytes(target[t]);
    }
  }
  return num_bytes;
}

}  // namespace strake
