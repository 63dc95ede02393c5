#include "data/text/encode_pipeline.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/string_view.h"
#include "core/base/signal_block.h"
#include "core/base/status_macros.h"
#include "data/chat/conversation_reader.h"
#include "data/tokenizer/word_cache.h"

namespace strake {
namespace {

constexpr size_t kPieceBytes = 1 << 18;
constexpr size_t kBatchBytes = 1 << 18;
constexpr std::chrono::milliseconds kPollInterval(50);

void Clear(EncodedBatch* batch) {
  batch->text.clear();
  batch->num_text_bytes = 0;
  batch->tokens.clear();
  batch->is_answer.clear();
  batch->pieces.clear();
  batch->ended_sources.clear();
}

}  // namespace

class EncodePipeline::Impl {
 public:
  Impl(const Tokenizer* tokenizer, std::vector<PrepareSource> sources, PreparePosition begin,
       EncodeOptions options)
      : tokenizer_(tokenizer),
        sources_(std::move(sources)),
        begin_(begin),
        options_(std::move(options)),
        slots_(2 * options_.num_threads + 2) {
    const SignalBlock no_signals;
    threads_.emplace_back([this] { ReadAll(); });
    for (int i = 0; i < options_.num_threads; ++i) threads_.emplace_back([this] { EncodeAll(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  absl::StatusOr<const EncodedBatch*> Next(const std::function<absl::Status()>& poll) {
    std::unique_lock lock(mutex_);
    Release();
    const auto ready = [&] {
      return !status_.ok() || Current().state == State::kEncoded ||
             (ended_ && num_taken_ == num_read_);
    };
    while (!ready()) {
      lock.unlock();
      STRAKE_RETURN_IF_ERROR(poll());
      lock.lock();
      changed_.wait_for(lock, kPollInterval, ready);
    }
    STRAKE_RETURN_IF_ERROR(status_);
    if (Current().state != State::kEncoded) return nullptr;
    taking_ = true;
    return &Current().batch;
  }

 private:
  // A slot goes through these states and begins anew.
  enum class State : uint8_t { kFree, kRead, kEncoded };
  struct Slot {
    State state = State::kFree;
    EncodedBatch batch = {};
  };

  Slot& SlotOf(int64_t number) { return slots_[number % slots_.size()]; }
  Slot& Current() { return SlotOf(num_taken_); }
  void Release() {
    if (!taking_) return;
    taking_ = false;
    Current().state = State::kFree;
    ++num_taken_;
    changed_.notify_all();
  }

  // The reading thread.
  void ReadAll();
  absl::Status ReadSources();
  absl::Status ReadSource(int64_t source);
  absl::Status ReadDocuments(int64_t source);
  absl::Status ReadConversations(int64_t source);
  template <typename Reader>
  void EndSource(int64_t source, const Reader& reader);
  // Whether an earlier call has not taken the piece there already.
  bool IsWanted(const PreparePosition& position) const;
  absl::Status AddPart(const DocumentPart& part);
  absl::Status AddText(absl::string_view text, bool ends_document);
  absl::Status AddPiece(EncodedPiece piece);
  // Cancelled where nobody wants more.
  absl::Status NextBatch();
  void Submit();
  bool Stopped() {
    const std::lock_guard lock(mutex_);
    return stopped_;
  }

  // An encoding thread.
  void EncodeAll();
  void Encode(WordCache* cache, EncodedBatch* batch) const;
  void EncodeText(absl::string_view text, const EncodedPiece& piece, WordCache* cache,
                  std::vector<int32_t>* tokens) const;

  const Tokenizer* const tokenizer_;
  const std::vector<PrepareSource> sources_;
  const PreparePosition begin_;
  const EncodeOptions options_;

  // Of the reading thread.
  EncodedBatch* batch_ = nullptr;
  PreparePosition position_;  // of the next piece
  int64_t document_offset_ = 0;
  std::string carry_;            // text of the document that is not cut yet
  size_t min_bytes_to_cut_ = 0;  // of the carry: with fewer no cut was found
  int64_t bytes_before_ = 0;     // of sources that ended

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  int64_t num_read_ = 0, num_begun_ = 0, num_taken_ = 0;
  bool taking_ = false, ended_ = false, stopped_ = false;
  absl::Status status_;
  std::vector<std::thread> threads_;
};

void EncodePipeline::Impl::ReadAll() {
  const absl::Status status = ReadSources();
  const std::lock_guard lock(mutex_);
  status_ = status;
  ended_ = true;
  changed_.notify_all();
}

absl::Status EncodePipeline::Impl::ReadSources() {
  STRAKE_RETURN_IF_ERROR(NextBatch());
  for (int64_t i = 0; i < begin_.source; ++i) {
    bytes_before_ += std::max<int64_t>(sources_[i].num_bytes, 0);
  }
  batch_->bytes_skipped = bytes_before_;
  for (int64_t i = begin_.source; i < static_cast<int64_t>(sources_.size()); ++i) {
    STRAKE_RETURN_IF_ERROR(ReadSource(i));
  }
  Submit();
  return absl::OkStatus();
}

absl::Status EncodePipeline::Impl::ReadSource(int64_t source) {
  position_ = {source, 0, 0};
  return options_.chat == nullptr ? ReadDocuments(source) : ReadConversations(source);
}

bool EncodePipeline::Impl::IsWanted(const PreparePosition& position) const {
  return position.source > begin_.source || position.document > begin_.document ||
         (position.document == begin_.document && position.piece >= begin_.piece);
}

absl::Status EncodePipeline::Impl::ReadDocuments(int64_t source) {
  STRAKE_ASSIGN_OR_RETURN(const auto reader,
                          DocumentReader::Open(sources_[source].path, options_.documents,
                                               [this] { return Stopped(); }));
  DocumentPart part;
  while (true) {
    STRAKE_ASSIGN_OR_RETURN(const bool more, reader->Next(&part));
    batch_->bytes_read = bytes_before_ + reader->bytes_read();
    if (!more) break;
    if (source > begin_.source || part.document >= begin_.document) {
      STRAKE_RETURN_IF_ERROR(AddPart(part));
    } else {
      batch_->bytes_skipped = batch_->bytes_read;
    }
  }
  EndSource(source, *reader);
  return absl::OkStatus();
}

absl::Status EncodePipeline::Impl::ReadConversations(int64_t source) {
  STRAKE_ASSIGN_OR_RETURN(const auto reader,
                          ConversationReader::Open(sources_[source].path, options_.documents,
                                                   [this] { return Stopped(); }));
  Conversation conversation;
  while (true) {
    STRAKE_ASSIGN_OR_RETURN(const bool more, reader->Next(&conversation));
    batch_->bytes_read = bytes_before_ + reader->bytes_read();
    if (!more) break;
    auto chat = options_.chat->Render(conversation);
    if (!chat.ok()) {
      STRAKE_RETURN_IF_ERROR(reader->Refuse(chat.status()));
      continue;
    }
    document_offset_ = reader->offset();
    const size_t num_bytes = chat->text.size();
    STRAKE_RETURN_IF_ERROR(
        AddPiece({.ends_document = true, .num_text_bytes = num_bytes, .chat = *std::move(chat)}));
  }
  EndSource(source, *reader);
  return absl::OkStatus();
}

template <typename Reader>
void EncodePipeline::Impl::EndSource(int64_t source, const Reader& reader) {
  bytes_before_ += reader.bytes_read();
  PrepareSource ended = sources_[source];
  ended.fingerprint = reader.fingerprint().ToString();
  ended.num_bad_lines = reader.num_bad_lines();
  ended.num_empty_documents = reader.num_empty_documents();
  ended.first_bad_line = reader.first_bad_line();
  batch_->ended_sources.emplace_back(source, std::move(ended));
}

// Cuts the text, together with what was left of the part before, into pieces.
absl::Status EncodePipeline::Impl::AddPart(const DocumentPart& part) {
  if (part.document != position_.document) position_ = {position_.source, part.document, 0};
  document_offset_ = part.offset;
  absl::string_view text = part.text;
  if (!carry_.empty()) {
    carry_.append(text.data(), text.size());
    text = carry_;
  }
  size_t window = std::max(kPieceBytes, min_bytes_to_cut_);
  while (text.size() > window) {
    const size_t cut = tokenizer_->SafeCut(text.substr(0, window));
    if (cut == 0) {
      window *= 2;  // so that a text without a cut is not searched again and again
      continue;
    }
    STRAKE_RETURN_IF_ERROR(AddText(text.substr(0, cut), /*ends_document=*/false));
    text.remove_prefix(cut);
    window = kPieceBytes;
  }
  if (part.ends_document) STRAKE_RETURN_IF_ERROR(AddText(text, /*ends_document=*/true));
  std::string rest(part.ends_document ? absl::string_view() : text);
  carry_ = std::move(rest);
  min_bytes_to_cut_ = part.ends_document ? 0 : window;
  return absl::OkStatus();
}

absl::Status EncodePipeline::Impl::AddText(absl::string_view text, bool ends_document) {
  if (IsWanted(position_)) batch_->text.append(text.data(), text.size());
  return AddPiece({.ends_document = ends_document, .num_text_bytes = text.size()});
}

// Adds the piece at the position, whose text is in the batch or the piece already.
absl::Status EncodePipeline::Impl::AddPiece(EncodedPiece piece) {
  piece.position = position_;
  piece.offset = document_offset_;
  piece.begins_document = position_.piece == 0;
  ++position_.piece;
  if (piece.ends_document) position_ = {position_.source, position_.document + 1, 0};
  if (IsWanted(piece.position)) {
    batch_->num_text_bytes += piece.num_text_bytes;
    batch_->pieces.push_back(std::move(piece));
  } else {
    batch_->bytes_skipped = batch_->bytes_read;
  }
  if (batch_->num_text_bytes < kBatchBytes) return absl::OkStatus();
  Submit();
  return NextBatch();
}

absl::Status EncodePipeline::Impl::NextBatch() {
  std::unique_lock lock(mutex_);
  Slot& slot = SlotOf(num_read_);
  changed_.wait(lock, [&] { return stopped_ || slot.state == State::kFree; });
  if (stopped_) return absl::CancelledError("the caller has gone");
  const int64_t bytes_read = batch_ != nullptr ? batch_->bytes_read : 0;
  const int64_t bytes_skipped = batch_ != nullptr ? batch_->bytes_skipped : 0;
  batch_ = &slot.batch;
  Clear(batch_);
  batch_->bytes_read = bytes_read;
  batch_->bytes_skipped = bytes_skipped;
  return absl::OkStatus();
}

void EncodePipeline::Impl::Submit() {
  const std::lock_guard lock(mutex_);
  SlotOf(num_read_++).state = State::kRead;
  changed_.notify_all();
}

void EncodePipeline::Impl::EncodeAll() {
  WordCache cache;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopped_ || num_begun_ < num_read_ || ended_; });
    if (stopped_ || num_begun_ == num_read_) return;
    Slot& slot = SlotOf(num_begun_++);
    lock.unlock();
    Encode(&cache, &slot.batch);
    lock.lock();
    slot.state = State::kEncoded;
    changed_.notify_all();
  }
}

void EncodePipeline::Impl::Encode(WordCache* cache, EncodedBatch* batch) const {
  absl::string_view text = batch->text;
  for (EncodedPiece& piece : batch->pieces) {
    if (piece.chat.has_value()) {
      const ChatTokens chat = options_.chat->Encode(*piece.chat, cache);
      batch->tokens.insert(batch->tokens.end(), chat.tokens.begin(), chat.tokens.end());
      batch->is_answer.insert(batch->is_answer.end(), chat.is_answer.begin(), chat.is_answer.end());
    } else {
      EncodeText(text.substr(0, piece.num_text_bytes), piece, cache, &batch->tokens);
      text.remove_prefix(piece.num_text_bytes);
    }
    piece.tokens_end = batch->tokens.size();
  }
}

void EncodePipeline::Impl::EncodeText(absl::string_view text, const EncodedPiece& piece,
                                      WordCache* cache, std::vector<int32_t>* tokens) const {
  if (piece.begins_document) {
    tokens->insert(tokens->end(), options_.prefix.begin(), options_.prefix.end());
  }
  tokenizer_->Encode(text, cache, tokens, /*continues=*/!piece.begins_document);
  if (piece.ends_document) {
    tokens->insert(tokens->end(), options_.suffix.begin(), options_.suffix.end());
  }
}

EncodePipeline::EncodePipeline(const Tokenizer* tokenizer, std::vector<PrepareSource> sources,
                               PreparePosition begin, EncodeOptions options)
    : impl_(std::make_unique<Impl>(tokenizer, std::move(sources), begin, std::move(options))) {}
EncodePipeline::~EncodePipeline() = default;

absl::StatusOr<const EncodedBatch*> EncodePipeline::Next(
    const std::function<absl::Status()>& poll) {
  return impl_->Next(poll);
}

}  // namespace strake
