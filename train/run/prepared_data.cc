#include "train/run/prepared_data.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/format_quantity.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "data/chat/chat_encoder.h"
#include "data/chat/chat_files.h"
#include "data/chat/chat_format.h"
#include "data/target_ranges.h"
#include "data/text/document_reader.h"
#include "data/text/prepare.h"
#include "data/token_batch.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "train/engine/mesh_wide.h"
#include "train/run/data_content.h"

namespace strake {
namespace {

absl::Status NoTokenizer(const std::string& file, const TrainerOptions& options,
                         const RunTokenizer& tokenizer) {
  return TextForTokensError(
      file, options.engine.model.vocab_size,
      absl::StrCat(
          ", and no tokenizer",
          tokenizer.unusable.ok() ? "" : absl::StrCat(" (", tokenizer.unusable.message(), ")"),
          "; give its tokenizer by ", options.names.tokenizer, ", or token files"));
}

// Whether the file has to be prepared, for a model that reads text as bytes or not. Errors of files
// that cannot be read come when they are opened.
absl::StatusOr<bool> IsToBePrepared(const std::string& file, const TrainerOptions& options,
                                    const RunTokenizer& tokenizer, bool as_bytes) {
  if (absl::EndsWith(file, ".bin")) return false;
  // An empty file is text as well: preparing it gives the error, or counts it.
  std::error_code error;
  const bool is_empty = std::filesystem::is_regular_file(file, error) &&
                        std::filesystem::file_size(file, error) == 0 && !error;
  if (is_empty) return tokenizer.tokenizer != nullptr && !as_bytes;
  STRAKE_ASSIGN_OR_RETURN(const std::optional<ContentKind> kind, TextContentOf(file));
  if (!kind.has_value()) return false;
  if (tokenizer.tokenizer != nullptr && !as_bytes) return true;
  if (options.engine.model.vocab_size != kByteVocabSize && !as_bytes) {
    return NoTokenizer(file, options, tokenizer);
  }
  return kind->content != FileContent::kText || IsJsonLines(file, {});
}

// Whether a run of an earlier version goes on with text that it reads as bytes, for any model.
bool TrainsOnBytes(const TrainerOptions& options, DataRules rules) {
  return rules == DataRules::kBytesAndEnd && options.train_sources.empty() &&
         std::none_of(options.train_files.begin(), options.train_files.end(),
                      [](const std::string& file) { return absl::EndsWith(file, ".bin"); });
}

// "12.3k tokens".
std::string CountOf(int64_t count, absl::string_view noun) {
  return absl::StrCat(FormatCount(static_cast<double>(count)), " ", Plural(count, noun));
}

// What is known of lists of files once they are prepared.
struct PreparedLists {
  bool training = false, any = false;  // whether training files were made of text, or any
  // Of conversations to train on that were prepared here; "": none was needed.
  std::string chat_format = {};
};

bool HasTargets(const std::string& token_file) {
  std::error_code error;
  return std::filesystem::exists(TargetRangesPath(token_file), error);
}

// The first rank's work, which goes on beside the thread that tells of its progress.
class Preparation {
 public:
  Preparation(const RunTokenizer& tokenizer, DataRules rules, TrainerOptions* options)
      : tokenizer_(tokenizer),
        options_(*options),
        rules_(rules),
        as_bytes_(TrainsOnBytes(*options, rules)) {}

  absl::StatusOr<PreparedLists> Run() {
    for (std::vector<std::string>* const list : TrainLists(&options_)) {
      if (rules_ != DataRules::kDocuments) break;
      STRAKE_ASSIGN_OR_RETURN(const bool training, PrepareList(options_.names.train_files, list));
      lists_.training = lists_.training || training;
    }
    lists_.any = lists_.training;
    lists_.chat_format = used_format_;
    for (ValidationSet& set : options_.val_sets) {
      STRAKE_ASSIGN_OR_RETURN(const bool validation,
                              PrepareList(options_.names.val_files, &set.files));
      lists_.any = lists_.any || validation;
    }
    NoteConversations();
    return lists_;
  }

  // Ends Run() soon, for nobody waits for its result.
  void Abandon() { abandoned_ = true; }

  PrepareProgress progress() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return progress_;
  }
  const std::vector<std::string>& notes() const { return notes_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  absl::StatusOr<bool> PrepareList(const std::string& name, std::vector<std::string>* files) {
    std::vector<std::string> texts, tokens;
    for (const std::string& file : *files) {
      STRAKE_ASSIGN_OR_RETURN(
          const bool is_text,
          NameError(name, IsToBePrepared(file, options_, tokenizer_, as_bytes_)));
      (is_text ? texts : tokens).push_back(file);
      if (!is_text && HasTargets(file)) has_conversations_ = true;
    }
    if (texts.empty()) return false;
    struct stat info;
    const bool new_cache = lstat(options_.data_cache.c_str(), &info) != 0 && errno == ENOENT;
    const auto prepared = PrepareTexts(name, texts);
    if (!prepared.ok()) {
      // An empty folder alone: files and links are not ours.
      if (new_cache) rmdir(options_.data_cache.c_str());
      return prepared.status();
    }
    *files = prepared->token_files;
    files->insert(files->end(), tokens.begin(), tokens.end());
    return true;
  }

  absl::StatusOr<PreparedTokens> PrepareTexts(const std::string& name,
                                              const std::vector<std::string>& texts) {
    STRAKE_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, TokenizerToUse());
    STRAKE_ASSIGN_OR_RETURN(const std::optional<ChatEncoder> chat, ChatOf(name, texts, *tokenizer));
    PrepareOptions prepare = {
        .files = texts,
        .documents = {.field = options_.text_field,
                      .skip_bad_lines = options_.skip_bad_lines,
                      .name_of_skip_bad_lines = options_.names.skip_bad_lines},
        .chat = chat ? &*chat : nullptr,
        .end_of_text = tokenizer->spec().end_of_text.value_or(-1),
        .replace_damaged = true,
        .threads = NumUsableCores(),
        .on_progress = [this](const PrepareOptions::Progress& p) { SetProgress(p); },
        .stop_requested = [this] { return StopRequested() || abandoned_; },
        .names = {.files = name, .directory = options_.names.data_cache}};
    STRAKE_ASSIGN_OR_RETURN(prepare.directory,
                            PreparedDirectory(options_.data_cache, *tokenizer, prepare));
    STRAKE_ASSIGN_OR_RETURN(const PreparedTokens prepared, PrepareTokens(*tokenizer, prepare));
    Note(texts, chat, prepare.directory, prepared);
    return prepared;
  }

  // What encodes the files; nothing where they are of no conversations.
  absl::StatusOr<std::optional<ChatEncoder>> ChatOf(const std::string& name,
                                                    const std::vector<std::string>& files,
                                                    const Tokenizer& tokenizer) {
    if (as_bytes_) return std::nullopt;
    STRAKE_ASSIGN_OR_RETURN(std::optional<ChatEncoder> chat,
                            OpenChatFiles({.files = files,
                                           .text_field = options_.text_field,
                                           .format = options_.chat_format,
                                           .folder = tokenizer_.folder,
                                           .name_of_files = name,
                                           .name_of_format = options_.names.chat_format},
                                          &tokenizer));
    has_conversations_ = has_conversations_ || chat.has_value();
    if (chat.has_value() && chat->format() != nullptr) {
      used_format_ = std::string(chat->format()->name);
    }
    return chat;
  }

  // A model of bytes has documents of bytes.
  absl::StatusOr<const Tokenizer*> TokenizerToUse() {
    if (tokenizer_.tokenizer != nullptr && !as_bytes_) return tokenizer_.tokenizer.get();
    if (bytes_ == nullptr) {
      STRAKE_ASSIGN_OR_RETURN(bytes_, Tokenizer::Create(ByteTokenizerSpec()));
    }
    return bytes_.get();
  }

  bool StopRequested() const {
    return options_.stop_requested != nullptr && options_.stop_requested();
  }

  void SetProgress(const PrepareOptions::Progress& p) {
    const std::lock_guard<std::mutex> lock(mutex_);
    progress_ = {.bytes_read = p.bytes_read, .bytes_in_all = p.bytes_in_all, .tokens = p.tokens};
  }

  void NoteConversations() {
    if (has_conversations_ && options_.documents == DocumentMode::kConcat) {
      notes_.push_back(absl::StrCat("conversations do not see each other: for them ",
                                    options_.names.documents, " is mask, not concat"));
    }
    if (options_.chat_format.empty() || !used_format_.empty()) return;
    warnings_.push_back(absl::StrCat(options_.names.chat_format, "=", options_.chat_format,
                                     " is not used: no file of conversations is prepared"));
  }

  // "text of a.txt", or "conversations of 2 files in the format chatml".
  static std::string WhatIs(const std::vector<std::string>& files,
                            const std::optional<ChatEncoder>& chat) {
    const std::string of = absl::StrCat(
        " of ", files.size() == 1 ? files.front() : absl::StrCat(files.size(), " files"));
    if (!chat.has_value()) return "text" + of;
    return absl::StrCat(
        "conversations", of,
        chat->format() == nullptr ? "" : absl::StrCat(" in the format ", chat->format()->name));
  }

  void Note(const std::vector<std::string>& texts, const std::optional<ChatEncoder>& chat,
            const std::string& directory, const PreparedTokens& prepared) {
    const std::string what = WhatIs(texts, chat);
    const char* const verb = chat.has_value() ? (prepared.reused ? " were" : " are")
                                              : (prepared.reused ? " was" : " is");
    notes_.push_back(absl::StrCat(
        what, verb, prepared.reused ? " prepared before: " : " prepared: ",
        CountOf(prepared.num_documents, chat.has_value() ? "conversation" : "document"), ", ",
        FormatBytes(static_cast<double>(prepared.num_text_bytes)), " of text, ",
        CountOf(prepared.num_tokens, "token"),
        chat.has_value()
            ? absl::StrCat(", ", FormatCount(static_cast<double>(prepared.num_answer_tokens)),
                           " of answers")
            : "",
        " in ", directory));
    if (!prepared.replaced.empty()) {
      warnings_.push_back(prepared.replaced + "; its text was prepared again");
    }
    if (prepared.num_bad_lines + prepared.num_empty_documents == 0) return;
    warnings_.push_back(
        absl::StrCat("left out of ", what, ": ", CountOf(prepared.num_bad_lines, "bad line"), ", ",
                     CountOf(prepared.num_empty_documents, "empty document"),
                     prepared.first_bad_line.empty()
                         ? ""
                         : absl::StrCat("; the first bad line: ", prepared.first_bad_line)));
  }

  const RunTokenizer& tokenizer_;
  TrainerOptions& options_;
  const DataRules rules_;
  const bool as_bytes_;
  std::unique_ptr<const Tokenizer> bytes_;
  PreparedLists lists_;
  bool has_conversations_ = false;  // in any list
  std::string used_format_;         // for any
  std::vector<std::string> notes_, warnings_;
  std::atomic<bool> abandoned_ = false;
  std::mutex mutex_;
  PrepareProgress progress_;
};

// No path holds these.
constexpr absl::string_view kEndOfName("\0", 1), kEndOfList("\0\0", 2);

// Of training and validation.
std::vector<std::vector<std::string>*> AllLists(TrainerOptions* options) {
  std::vector<std::vector<std::string>*> lists = TrainLists(options);
  for (ValidationSet& set : options->val_sets) lists.push_back(&set.files);
  return lists;
}

constexpr absl::string_view kPrepared = "prepared", kAsTheyAre = "as they are",
                            kFormat = "format ";  // none is empty, or ends of names would meet
constexpr char kStopped[] = "stopped";

// What the other ranks need: whether training files were prepared, in which format, and all lists
// where one has changed, so that otherwise each keeps what it was given.
std::string FilesText(const PreparedLists& prepared, TrainerOptions* options) {
  const std::string format = absl::StrCat(kFormat, prepared.chat_format);
  std::string text = absl::StrCat(prepared.training ? kPrepared : kAsTheyAre, kEndOfName, format);
  if (!prepared.any) return text;
  for (const std::vector<std::string>* const list : AllLists(options)) {
    absl::StrAppend(&text, kEndOfList, absl::StrJoin(*list, kEndOfName));
  }
  return text;
}

// Returns whether training files were prepared.
bool TakeFiles(absl::string_view text, TrainerOptions* options) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, kEndOfList);
  const std::vector<std::vector<std::string>*> lists = AllLists(options);
  for (size_t i = 0; parts.size() > 1 && i < lists.size(); ++i) {
    *lists[i] = absl::StrSplit(parts.at(i + 1), kEndOfName);
  }
  const std::vector<absl::string_view> words = absl::StrSplit(parts[0], kEndOfName);
  options->chat_format = std::string(absl::StripPrefix(words.at(1), kFormat));
  return words[0] == kPrepared;
}

struct Meeting {
  bool done = false;  // the preparation
  bool stop = false;  // asked for on any rank
};

absl::StatusOr<Meeting> Meet(const Mesh& mesh, bool done, const TrainerOptions& options) {
  Meeting meeting;
  STRAKE_ASSIGN_OR_RETURN(meeting.done, AnyRank(mesh, done));
  const bool stop = options.stop_requested != nullptr && options.stop_requested();
  STRAKE_ASSIGN_OR_RETURN(meeting.stop, AnyRank(mesh, stop));
  return meeting;
}

// Returns nothing where it was asked to stop.
absl::StatusOr<std::optional<PreparedLists>> PrepareOnFirstRank(
    const Mesh& mesh, DataRules rules, const RunTokenizer& tokenizer,
    const std::vector<TrainObserver*>& observers, TrainerOptions* options) {
  Preparation preparation(tokenizer, rules, options);
  auto work = std::async(std::launch::async, [&] { return preparation.Run(); });
  // Several times within the time after which ranks that do not meet are lost.
  const std::chrono::milliseconds pause = std::min<std::chrono::milliseconds>(
      std::chrono::milliseconds(200), mesh.communicator(MeshAxis::kDp).options().timeout / 4);
  absl::Status told = absl::OkStatus();
  for (bool done = false; !done;) {
    done = work.wait_for(pause) == std::future_status::ready;
    if (told.ok() && !done)
      told =
          TellAll(observers, [&](TrainObserver& o) { return o.OnPrepare(preparation.progress()); });
    const auto all = Meet(mesh, done, *options);
    if (!all.ok() && told.ok()) told = all.status();
    if (!told.ok() || all->stop) preparation.Abandon();
    if (!all.ok()) break;
  }
  const absl::StatusOr<PreparedLists> prepared = work.get();
  STRAKE_RETURN_IF_ERROR(told);
  if (absl::IsCancelled(prepared.status())) return std::nullopt;
  STRAKE_RETURN_IF_ERROR(prepared.status());
  for (const std::string& note : preparation.notes()) {
    STRAKE_RETURN_IF_ERROR(TellAll(observers, [&](TrainObserver& o) { return o.OnNote(note); }));
  }
  for (const std::string& warning : preparation.warnings()) {
    STRAKE_RETURN_IF_ERROR(
        TellAll(observers, [&](TrainObserver& o) { return o.OnWarning(warning); }));
  }
  return prepared;
}

}  // namespace

absl::StatusOr<bool> PrepareData(const Mesh& mesh, DataRules rules, const RunTokenizer& tokenizer,
                                 const std::vector<TrainObserver*>& observers,
                                 TrainerOptions* options) {
  std::string files;
  if (mesh.rank() == 0) {
    STRAKE_ASSIGN_OR_RETURN(const std::optional<PreparedLists> prepared,
                            PrepareOnFirstRank(mesh, rules, tokenizer, observers, options));
    files = prepared.has_value() ? FilesText(*prepared, options) : kStopped;
  } else {
    for (Meeting meeting; !meeting.done;) {
      STRAKE_ASSIGN_OR_RETURN(meeting, Meet(mesh, false, *options));
    }
  }
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh, &files));
  if (files == kStopped) {
    return absl::CancelledError(absl::StrCat(
        options->data_cache, ": asked to stop; token files that are finished are kept"));
  }
  return TakeFiles(files, options);
}

}  // namespace strake
