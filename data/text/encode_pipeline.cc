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
#include "data/tokenizer/word_cache.h"

namespace strake {
namespace {

constexpr size_t kPieceBytes = 1 << 18;
constexpr size_t kBatchBytes = 1 << 18;
constexpr std::chrono::milliseconds kPollInterval(50);

void Clear(EncodedBatch* batch) {
  batch->text.clear();
  batch->tokens.clear();
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
  absl::Status AddPart(const DocumentPart& part);
  absl::Status AddPiece(absl::string_view text, bool ends_document);
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
  STRAKE_ASSIGN_OR_RETURN(const auto reader,
                          DocumentReader::Open(sources_[source].path, options_.documents,
                                               [this] { return Stopped(); }));
  const int64_t first = source == begin_.source ? begin_.document : 0;
  position_ = {source, 0, 0};
  DocumentPart part;
  while (true) {
    STRAKE_ASSIGN_OR_RETURN(const bool more, reader->Next(&part));
    batch_->bytes_read = bytes_before_ + reader->bytes_read();
    if (!more) break;
    if (part.document >= first) {
      STRAKE_RETURN_IF_ERROR(AddPart(part));
    } else {
      batch_->bytes_skipped = batch_->bytes_read;
    }
  }
  bytes_before_ += reader->bytes_read();
  PrepareSource ended = sources_[source];
  ended.fingerprint = reader->fingerprint().ToString();
  ended.num_bad_lines = reader->num_bad_lines();
  ended.num_empty_documents = reader->num_empty_documents();
  ended.first_bad_line = reader->first_bad_line();
  batch_->ended_sources.emplace_back(source, std::move(ended));
  return absl::OkStatus();
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
    STRAKE_RETURN_IF_ERROR(AddPiece(text.substr(0, cut), /*ends_document=*/false));
    text.remove_prefix(cut);
    window = kPieceBytes;
  }
  if (part.ends_document) STRAKE_RETURN_IF_ERROR(AddPiece(text, /*ends_document=*/true));
  std::string rest(part.ends_document ? absl::string_view() : text);
  carry_ = std::move(rest);
  min_bytes_to_cut_ = part.ends_document ? 0 : window;
  return absl::OkStatus();
}

absl::Status EncodePipeline::Impl::AddPiece(absl::string_view text, bool ends_document) {
  const bool wanted = position_.source > begin_.source || position_.document > begin_.document ||
                      position_.piece >= begin_.piece;
  if (wanted) {
    batch_->text.append(text.data(), text.size());
    batch_->pieces.push_back({.position = position_,
                              .offset = document_offset_,
                              .begins_document = position_.piece == 0,
                              .ends_document = ends_document,
                              .text_end = batch_->text.size()});
  } else {
    batch_->bytes_skipped = batch_->bytes_read;
  }
  ++position_.piece;
  if (ends_document) position_ = {position_.source, position_.document + 1, 0};
  if (batch_->text.size() < kBatchBytes) return absl::OkStatus();
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
  std::vector<int32_t>& tokens = batch->tokens;
  size_t begin = 0;
  for (EncodedPiece& piece : batch->pieces) {
    const absl::string_view text =
        absl::string_view(batch->text).substr(begin, piece.text_end - begin);
    if (piece.begins_document) {
      tokens.insert(tokens.end(), options_.prefix.begin(), options_.prefix.end());
    }
    tokenizer_->Encode(text, cache, &tokens, /*continues=*/!piece.begins_document);
    if (piece.ends_document) {
      tokens.insert(tokens.end(), options_.suffix.begin(), options_.suffix.end());
    }
    piece.tokens_end = tokens.size();
    begin = piece.text_end;
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
