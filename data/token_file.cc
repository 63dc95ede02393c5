#include "data/token_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

using Header = std::array<int32_t, 256>;

struct Format {
  int32_t magic;
  int32_t version;
};
constexpr Format kUint16Format = {20240520, 1};
constexpr Format kUint32Format = {20240801, 7};

// Calls body.template operator()<T>() with the integer type of one token.
template <typename Body>
auto Dispatch(TokenEncoding encoding, Body&& body) {
  switch (encoding) {
    case TokenEncoding::kBytes:
      return body.template operator()<uint8_t>();
    case TokenEncoding::kUint16:
      return body.template operator()<uint16_t>();
    case TokenEncoding::kUint32:
      break;
  }
  return body.template operator()<uint32_t>();
}

template <typename T>
T LoadToken(const char* tokens, int64_t i) {
  T token;
  std::memcpy(&token, tokens + i * sizeof(T), sizeof(T));
  return token;
}

// The first i < count whose token is not below `bound`; `count` if there is none.
template <typename T>
int64_t FindNotBelow(const char* tokens, int64_t count, uint64_t bound) {
  constexpr int64_t kBlock = 8192;  // a maximum per block: a loop that vectorizes
  for (int64_t block = 0; block < count; block += kBlock) {
    const int64_t end = std::min(count, block + kBlock);
    T max = 0;
    for (int64_t i = block; i < end; ++i) max = std::max(max, LoadToken<T>(tokens, i));
    if (max < bound) continue;
    for (int64_t i = block; i < end; ++i) {
      if (LoadToken<T>(tokens, i) >= bound) return i;
    }
  }
  return count;
}

int64_t TokenBytes(TokenEncoding encoding) {
  return Dispatch(encoding, []<typename T>() { return static_cast<int64_t>(sizeof(T)); });
}

int64_t MaxToken(TokenEncoding encoding) {
  return Dispatch(encoding, []<typename T>() { return int64_t{std::numeric_limits<T>::max()}; });
}

absl::Status Errno(const std::string& path, const char* what) {
  // An errno of 0 would make an OK status; streams need not set errno.
  const int error = errno != 0 ? errno : EIO;
  return absl::ErrnoToStatus(error, absl::StrCat("data file ", path, ": cannot ", what));
}

template <typename... Args>
absl::Status BadFile(const std::string& path, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat("data file ", path, ": ", args...));
}

absl::StatusOr<FileMapping> Map(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe without a writer would block for ever.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return Errno(path, "open it; check the path and its permissions");
  struct stat info;
  if (fstat(file.get(), &info) != 0) return Errno(path, "get its size");
  if (S_ISDIR(info.st_mode)) {
    return BadFile(path, "is a directory; name files or a glob, such as ", path, "/*");
  }
  if (!S_ISREG(info.st_mode)) {
    return BadFile(path, "is not a regular file, which mapping needs; copy its contents to one");
  }
  if (info.st_size == 0) return BadFile(path, "is empty; write the text or the tokens again");
  auto mapping = FileMapping::Map(path, file, info.st_size);
  if (!mapping.ok()) return BadFile(path, "cannot be mapped: ", mapping.status().message());
  return mapping;
}

}  // namespace

absl::StatusOr<TokenFile> TokenFile::Open(const std::string& path, int64_t vocab_size) {
  STRAKE_ASSIGN_OR_RETURN(FileMapping mapping, Map(path));
  STRAKE_ASSIGN_OR_RETURN(TokenFile file, Parse(path, mapping.bytes(), vocab_size));
  file.mapping_ = std::move(mapping);
  return file;
}

absl::StatusOr<TokenFile> TokenFile::Parse(const std::string& path, absl::string_view content,
                                           int64_t vocab_size) {
  CHECK(vocab_size >= 1 && vocab_size <= std::numeric_limits<int32_t>::max())
      << "[token_file] vocab_size " << vocab_size;
  TokenFile file;
  file.path_ = path;
  file.vocab_size_ = vocab_size;
  if (absl::EndsWith(path, ".bin")) {
    STRAKE_RETURN_IF_ERROR(file.ParseHeader(content));
  } else {
    file.tokens_ = content.data();
    file.num_tokens_ = content.size();
  }
  if (file.num_tokens_ == 0) return BadFile(path, "holds no tokens; write it again");

  file.checked_ = vocab_size > MaxToken(file.encoding_);
  if (!file.checked_ && content.size() <= kMaxScanBytes) {
    STRAKE_RETURN_IF_ERROR(file.CheckVocabulary(0, file.num_tokens_));
    file.checked_ = true;
  }
  return file;
}

absl::Status TokenFile::ParseHeader(absl::string_view content) {
  Header header;
  const int64_t size = content.size();
  if (size < sizeof(header)) {
    return BadFile(path_, "has ", size, " bytes, and the header of a *.bin file alone has ",
                   sizeof(header), "; write it again, or rename it if it is text");
  }
  std::memcpy(header.data(), content.data(), sizeof(header));
  const auto [magic, version, count] = std::array{header[0], header[1], header[2]};
  if (magic != kUint16Format.magic && magic != kUint32Format.magic) {
    return BadFile(path_, "its magic number is ", magic, ", not ", kUint16Format.magic,
                   " (uint16 tokens) or ", kUint32Format.magic,
                   " (uint32 tokens); write it in llm.c's format, or rename it if it is text");
  }
  const bool is_uint16 = magic == kUint16Format.magic;
  const Format format = is_uint16 ? kUint16Format : kUint32Format;
  encoding_ = is_uint16 ? TokenEncoding::kUint16 : TokenEncoding::kUint32;
  if (version != format.version) {
    return BadFile(path_, "its version is ", version, ", and with magic number ", magic,
                   " only version ", format.version, " is known; write it again");
  }
  const int64_t expected = sizeof(header) + count * TokenBytes(encoding_);
  if (count < 0 || size != expected) {
    return BadFile(path_, "has ", size, " bytes, but a header of ", sizeof(header), " and ", count,
                   " tokens of ", TokenBytes(encoding_), " bytes make ", expected,
                   "; it is cut off or damaged, write it again");
  }
  tokens_ = content.data() + sizeof(header);
  num_tokens_ = count;
  return absl::OkStatus();
}

absl::Status TokenFile::CheckVocabulary(int64_t begin, int64_t count) const {
  return Dispatch(encoding_, [&]<typename T>() -> absl::Status {
    const int64_t i = FindNotBelow<T>(tokens_ + begin * sizeof(T), count, vocab_size_);
    if (i == count) return absl::OkStatus();
    return BadFile(path_, "token ", LoadToken<T>(tokens_, begin + i), " at offset ", begin + i,
                   " (in tokens) is not below the vocabulary size ", vocab_size_,
                   "; use tokens made for this model, or a model with a larger vocabulary");
  });
}

absl::Status TokenFile::Read(int64_t begin, int64_t count, int32_t* tokens) const {
  CHECK(begin >= 0 && count >= 0 && count <= num_tokens_ - begin)
      << "[token_file] " << path_ << ": " << count << " tokens from " << begin << " of "
      << num_tokens_;
  if (!checked_) STRAKE_RETURN_IF_ERROR(CheckVocabulary(begin, count));
  ReadUnchecked(begin, count, tokens);
  return absl::OkStatus();
}

void TokenFile::ReadUnchecked(int64_t begin, int64_t count, int32_t* tokens) const {
  Dispatch(encoding_, [&]<typename T>() {
    const char* first = tokens_ + begin * sizeof(T);
    for (int64_t i = 0; i < count; ++i) {
      tokens[i] = static_cast<int32_t>(LoadToken<T>(first, i));
    }
  });
}

absl::Status WriteTokenFile(const std::string& path, absl::Span<const int32_t> tokens,
                            TokenEncoding encoding) {
  if (tokens.size() > std::numeric_limits<int32_t>::max()) {
    return BadFile(path, tokens.size(), " tokens are more than the header can count (",
                   std::numeric_limits<int32_t>::max(), "); write several files");
  }
  std::string content;
  if (encoding != TokenEncoding::kBytes) {
    const Format format = encoding == TokenEncoding::kUint16 ? kUint16Format : kUint32Format;
    const Header header = {format.magic, format.version, static_cast<int32_t>(tokens.size())};
    content.assign(reinterpret_cast<const char*>(header.data()), sizeof(header));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token > MaxToken(encoding)) {
      return BadFile(path, "token ", token, " does not fit into ", TokenBytes(encoding),
                     " bytes; write wider tokens");
    }
    content.append(reinterpret_cast<const char*>(&token), TokenBytes(encoding));
  }
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), content.size());
  file.close();
  if (!file) return Errno(path, "write it");
  return absl::OkStatus();
}

}  // namespace strake
