#include "tools/tokenizing/encode_stream.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

// Small enough that threads end at about the same time.
constexpr size_t kChunkBytes = size_t{256} << 10;
constexpr char kInput[] = "standard input";
constexpr char kOutput[] = "standard output";

// Appends up to `size` bytes: fewer only at the end.
absl::Status ReadUpTo(int fd, size_t size, std::string* bytes) {
  size_t filled = bytes->size();
  const size_t wanted = filled + size;
  bytes->resize(wanted);
  while (filled < wanted) {
    const ssize_t n = read(fd, bytes->data() + filled, wanted - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("read", kInput);
    if (n == 0) break;
    filled += n;
  }
  bytes->resize(filled);
  return absl::OkStatus();
}

// Cuts the input where encoding may begin anew.
class ChunkReader {
 public:
  ChunkReader(const Tokenizer& tokenizer, int fd) : tokenizer_(tokenizer), fd_(fd) {}

  // Sets the next chunk and its number. False at the end, and after an error.
  absl::StatusOr<bool> Next(std::string* chunk, int64_t* number) {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    *chunk = rest_;  // which keeps the memory of both
    rest_.clear();
    STRAKE_RETURN_IF_ERROR(ReadChunk(chunk));
    if (chunk->empty()) return false;
    *number = num_chunks_++;
    return true;
  }

 private:
  absl::Status ReadChunk(std::string* chunk) {
    for (size_t wanted = kChunkBytes; !ended_; wanted = 2 * chunk->size()) {
      const absl::Status status = ReadUpTo(fd_, wanted - std::min(wanted, chunk->size()), chunk);
      ended_ = !status.ok() || chunk->size() < wanted;
      if (ended_) return status;
      const size_t cut = tokenizer_.SafeCut(*chunk);
      if (cut == 0) continue;
      rest_.assign(*chunk, cut);
      chunk->resize(cut);
      return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  const Tokenizer& tokenizer_;
  const int fd_;
  std::mutex mutex_;
  std::string rest_;
  int64_t num_chunks_ = 0;
  bool ended_ = false;
};

// Writes texts that threads give in any order in the order of their numbers.
class OrderedWriter {
 public:
  // Holds back up to `capacity` texts.
  OrderedWriter(int fd, int64_t capacity) : fd_(fd), capacity_(capacity) {}

  // Takes the text, and leaves the memory of one that was written. Waits where the text is too far
  // ahead. Returns the first error of writing.
  absl::Status Put(int64_t number, std::string* text) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return number < next_ + capacity_ || !status_.ok(); });
    texts_[number] = std::move(*text);
    text->clear();
    if (!written_.empty()) {
      *text = std::move(written_.back());
      written_.pop_back();
    }
    while (status_.ok() && !writes_ && !texts_.empty() && texts_.begin()->first == next_) {
      WriteNext(&lock);
    }
    return status_;
  }

 private:
  // Other threads may put texts meanwhile, which this one then writes.
  void WriteNext(std::unique_lock<std::mutex>* lock) {
    std::string text = std::move(texts_.extract(texts_.begin()).mapped());
    writes_ = true;
    lock->unlock();
    const absl::Status status = WriteAll(fd_, text, kOutput);
    lock->lock();
    writes_ = false;
    status_.Update(status);
    written_.push_back(std::move(text));
    ++next_;
    changed_.notify_all();
  }

  const int fd_;
  const int64_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::string> texts_;
  std::vector<std::string> written_;
  int64_t next_ = 0;
  bool writes_ = false;
  absl::Status status_;
};

// The line of each id, in eight bytes: printing one is a copy.
class IdLines {
 public:
  explicit IdLines(int64_t vocab_size) : lines_(vocab_size), sizes_(vocab_size) {
    for (int64_t id = 0; id < vocab_size; ++id) {
      char* end = std::to_chars(lines_[id].data(), lines_[id].data() + kMaxLine - 1, id).ptr;
      *end++ = '\n';
      sizes_[id] = static_cast<uint8_t>(end - lines_[id].data());
    }
  }

  void Print(const std::vector<int32_t>& ids, std::string* text) const {
    text->resize(ids.size() * kMaxLine);
    char* out = text->data();
    for (const int32_t id : ids) {
      std::memcpy(out, lines_[id].data(), kMaxLine);
      out += sizes_[id];
    }
    text->resize(out - text->data());
  }

 private:
  static constexpr int kMaxLine = 8;
  static_assert(kMaxVocabSize <= 10'000'000, "seven digits and the line's end");

  std::vector<std::array<char, kMaxLine>> lines_;
  std::vector<uint8_t> sizes_;
};

// Encodes chunks until there are no more.
absl::Status EncodeChunks(const Tokenizer& tokenizer, const IdLines& lines, ChunkReader* reader,
                          OrderedWriter* writer) {
  WordCache cache;
  std::string chunk, text;
  std::vector<int32_t> ids;
  while (true) {
    int64_t number;
    STRAKE_ASSIGN_OR_RETURN(const bool more, reader->Next(&chunk, &number));
    if (!more) return absl::OkStatus();
    ids.clear();
    tokenizer.Encode(chunk, &cache, &ids, /*continues=*/number > 0);
    lines.Print(ids, &text);
    STRAKE_RETURN_IF_ERROR(writer->Put(number, &text));
  }
}

// Whether the bytes of tokens are those of each, one after the other.
bool DecodesTokenByToken(const TokenizerSpec& spec) {
  return spec.byte_level &&
         std::all_of(spec.decoders.begin(), spec.decoders.end(), [](const DecodingStep& step) {
           return step.kind == DecodingStep::Kind::kByteLevel;
         });
}

// Reads ids from text that comes in parts.
class IdReader {
 public:
  explicit IdReader(int64_t vocab_size) : vocab_size_(vocab_size) {}

  absl::Status Add(absl::string_view text, std::vector<int32_t>* ids) {
    for (const char c : text) {
      if (c >= '0' && c <= '9') {
        AddDigit(c);
        continue;
      }
      if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
        return Error(absl::StrCat("\"", Printable(absl::string_view(&c, 1)),
                                  "\" is no part of a token's number; give decimal numbers, one a "
                                  "line"));
      }
      STRAKE_RETURN_IF_ERROR(EndId(ids));
      line_ += c == '\n';
    }
    return absl::OkStatus();
  }

  absl::Status EndId(std::vector<int32_t>* ids) {
    if (id_ >= vocab_size_) {
      return Error(
          absl::StrCat(digits_.substr(0, kMaxDigits), digits_.size() > kMaxDigits ? "..." : "",
                       " is no token of the tokenizer, whose tokens are 0 to ", vocab_size_ - 1));
    }
    if (id_ >= 0) ids->push_back(static_cast<int32_t>(id_));
    id_ = -1;
    digits_.clear();
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kMaxDigits = 40;  // that a message shows

  void AddDigit(char digit) {
    // Larger ones are no ids, and are not told apart.
    id_ = std::min<int64_t>(std::max<int64_t>(id_, 0) * 10 + (digit - '0'), int64_t{1} << 53);
    if (digits_.size() <= kMaxDigits) digits_.push_back(digit);
  }
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(kInput, ", line ", line_, ": ", what));
  }

  const int64_t vocab_size_;
  int64_t id_ = -1;
  std::string digits_;  // of the id, as they are written
  int64_t line_ = 1;
};

}  // namespace

absl::Status EncodeStream(const Tokenizer& tokenizer, int num_threads, int input, int output) {
  const IdLines lines(tokenizer.vocab_size());
  ChunkReader reader(tokenizer, input);
  OrderedWriter writer(output, 4 * num_threads);
  absl::Status status;
  std::mutex status_mutex;
  ThreadTeam team(num_threads);
  team.ParallelForTasks(num_threads, [&](int, int64_t) {
    const absl::Status own = EncodeChunks(tokenizer, lines, &reader, &writer);
    const std::lock_guard lock(status_mutex);
    status.Update(own);
  });
  return status;
}

absl::Status DecodeStream(const Tokenizer& tokenizer, int input, int output) {
  const bool token_by_token = DecodesTokenByToken(tokenizer.spec());
  IdReader reader(tokenizer.vocab_size());
  StreamDecoder decoder(&tokenizer, /*skip_special=*/false);
  std::string numbers, text;
  std::vector<int32_t> ids;
  do {
    numbers.clear();
    ids.clear();
    STRAKE_RETURN_IF_ERROR(ReadUpTo(input, kChunkBytes, &numbers));
    STRAKE_RETURN_IF_ERROR(numbers.empty() ? reader.EndId(&ids) : reader.Add(numbers, &ids));
    text.clear();
    if (token_by_token) text = tokenizer.Decode(ids, /*skip_special=*/false);
    if (!token_by_token) {
      for (const int32_t id : ids) text += decoder.Add(id);
    }
    STRAKE_RETURN_IF_ERROR(WriteAll(output, text, kOutput));
  } while (!numbers.empty());
  return token_by_token ? absl::OkStatus() : WriteAll(output, decoder.End(), kOutput);
}

}  // namespace strake
