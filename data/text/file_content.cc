#include "data/text/file_content.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

using Text = absl::string_view;

constexpr char kUnpack[] = "unpack it first";
constexpr char kExport[] = "export its text as JSON lines";
constexpr char kSaveText[] = "save its text as UTF-8";
constexpr char kConvert[] = "convert it to UTF-8, for example with iconv";
constexpr char kNameText[] = "name files of text";

// Bytes at a fixed place by which a format is known.
struct Signature {
  size_t offset;
  Text bytes;
  const char* name;
  const char* hint;
};

template <size_t n>
constexpr Text Bytes(const char (&literal)[n]) {
  return Text(literal, n - 1);  // NULs included
}

// Signatures that no text begins with.
constexpr Signature kBinarySignatures[] = {
    {0, Bytes("\xff\xfe\0\0"), "UTF-32 text", kConvert},
    {0, Bytes("\0\0\xfe\xff"), "UTF-32 text", kConvert},
    {0, Bytes("\xff\xfe"), "UTF-16 text", kConvert},
    {0, Bytes("\xfe\xff"), "UTF-16 text", kConvert},
    {0, Bytes("\x93NUMPY"), "a NumPy array", kSaveText},
    {0, Bytes("BZh91AY&SY"), "a bzip2 file", kUnpack},
    {0, Bytes("\xfd\x37zXZ\0"), "an xz file", kUnpack},
    {0, Bytes("\x04\x22\x4d\x18"), "an lz4 file", kUnpack},
    {0, Bytes("7z\xbc\xaf\x27\x1c"), "a 7-Zip archive", kUnpack},
    {0, Bytes("Rar!\x1a\x07"), "a RAR archive", kUnpack},
    {257, Bytes("ustar"), "a tar archive", kUnpack},
    {0, Bytes("SQLite format 3\0"), "an SQLite database", kExport},
    {0, Bytes("\x89HDF\r\n\x1a\n"), "an HDF5 file", kExport},
    {0, Bytes("Obj\x01"), "an Avro file", kExport},
    {0, Bytes("\x89PNG\r\n\x1a\n"), "a PNG image", kNameText},
    {0, Bytes("\xff\xd8\xff"), "a JPEG image", kNameText},
    {0, Bytes("%PDF-"), "a PDF document", kSaveText},
    {0, Bytes("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an Office document", kSaveText},
    {0,
     Bytes("\x7f"
           "ELF"),
     "a program", kNameText},
    {0, Bytes("\0asm"), "a program", kNameText},
};

// Signatures of letters, which a text may begin with too: they count where the rest is no text.
constexpr Signature kLetterSignatures[] = {
    {0, Bytes("PAR1"), "a Parquet file", kExport},
    {0, Bytes("ARROW1"), "an Arrow file", kExport},
    {0, Bytes("FEA1"), "a Feather file", kExport},
    {0, Bytes("ORC"), "an ORC file", kExport},
    {0, Bytes("GIF87a"), "a GIF image", kNameText},
    {0, Bytes("GIF89a"), "a GIF image", kNameText},
    {8, Bytes("WEBP"), "a WebP image", kNameText},
    {8, Bytes("WAVE"), "a sound", kNameText},
    {4, Bytes("ftyp"), "a film", kNameText},
    {0, Bytes("ID3"), "a sound", kNameText},
    {0, Bytes("OggS"), "a sound", kNameText},
    {0, Bytes("BM"), "a bitmap image", kNameText},
    {0, Bytes("MZ"), "a program", kNameText},
    {0, Bytes("GGUF"), "a GGUF model", kNameText},
    {8, Bytes("{\""), "a safetensors file", kNameText},
};

template <size_t n>
const Signature* FindSignature(const Signature (&signatures)[n], Text bytes) {
  for (const Signature& signature : signatures) {
    if (bytes.size() >= signature.offset &&
        absl::StartsWith(bytes.substr(signature.offset), signature.bytes)) {
      return &signature;
    }
  }
  return nullptr;
}

ContentKind Other(const char* name, const char* hint) { return {FileContent::kOther, name, hint}; }

// The kind of a zip archive, by the name of its first file.
ContentKind ZipContent(Text bytes) {
  constexpr size_t kHeaderBytes = 30;
  const Text rest = bytes.size() > kHeaderBytes ? bytes.substr(kHeaderBytes) : Text();
  const Text name = rest.substr(0, 256);
  if (absl::StartsWith(name, "[Content_Types].xml")) return Other("an Office document", kSaveText);
  if (absl::StrContains(name, "data.pkl")) return Other("a PyTorch file", kNameText);
  if (absl::StrContains(name, ".npy")) return Other("NumPy arrays (.npz)", kSaveText);
  return Other("a zip archive", kUnpack);
}

bool IsLlmcMagic(Text bytes, int32_t magic) {
  int32_t first;
  if (bytes.size() < sizeof(first)) return false;
  std::memcpy(&first, bytes.data(), sizeof(first));
  return first == magic;
}

// zstd's frames, and those that a decompressor skips.
bool IsZstd(Text bytes) {
  if (absl::StartsWith(bytes, Bytes("\x28\xb5\x2f\xfd"))) return true;
  return bytes.size() >= 4 && (bytes[0] & 0xf0) == 0x50 &&
         bytes.substr(1, 3) == Bytes("\x2a\x4d\x18");
}

// Pickles of protocol 2 and later begin with their number and then have an opcode of theirs.
bool IsPickle(Text bytes) {
  return bytes.size() >= 3 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5 &&
         absl::StrContains(Text("\x95}]c(XK"), bytes[2]);
}

bool IsControl(unsigned char c) {
  return (c < 0x20 && !(c >= '\b' && c <= '\r') && c != 0x1b) || c == 0x7f;
}

bool IsText(Text bytes) {
  if (absl::StrContains(bytes, '\0')) return false;
  // A stray control character stands in many a text, such as a page break or an end of file of DOS.
  constexpr int64_t kBytesPerControl = 100;
  const int64_t controls = std::count_if(bytes.begin(), bytes.end(), IsControl);
  return controls * kBytesPerControl <= static_cast<int64_t>(bytes.size());
}

// UTF-16 without a mark: of a text in a European language, every second byte is NUL.
bool LooksLikeUtf16(Text bytes) {
  int64_t nuls[2] = {};
  for (size_t i = 0; i < bytes.size(); ++i) nuls[i % 2] += bytes[i] == '\0';
  const int64_t half = bytes.size() / 2;
  return half >= 4 && std::max(nuls[0], nuls[1]) * 10 > half * 9 &&
         std::min(nuls[0], nuls[1]) * 100 <= half;
}

}  // namespace

ContentKind ContentOfBytes(absl::string_view first_bytes) {
  const Text bytes = first_bytes.substr(0, kContentBytes);
  if (absl::StartsWith(bytes, Bytes("\x1f\x8b"))) return {FileContent::kGzip, "a gzip file", ""};
  if (IsZstd(bytes)) return {FileContent::kZstd, "a zstd file", ""};
  for (const int32_t magic : {20240520, 20240801}) {
    if (IsLlmcMagic(bytes, magic)) return {FileContent::kTokens, "a file of tokens", kNameText};
  }
  if (IsLlmcMagic(bytes, 20240522)) return Other("llm.c's file of multiple choice", kNameText);
  if (absl::StartsWith(bytes, Bytes("PK\x03\x04"))) return ZipContent(bytes);
  if (IsPickle(bytes)) return Other("a Python pickle", kExport);
  if (const Signature* found = FindSignature(kBinarySignatures, bytes)) {
    return Other(found->name, found->hint);
  }
  if (IsText(bytes)) return {FileContent::kText, "text", ""};
  if (const Signature* found = FindSignature(kLetterSignatures, bytes)) {
    return Other(found->name, found->hint);
  }
  if (LooksLikeUtf16(bytes)) return Other("UTF-16 text", kConvert);
  return Other("binary data", kNameText);
}

absl::StatusOr<ContentKind> ContentOfFile(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe without a writer would block for ever.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) return SystemError("open", path);
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is a directory; name its files"));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a regular file; copy its contents to one"));
  }
  std::string bytes(kContentBytes, '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t n = read(file.get(), &bytes[size], bytes.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("read", path);
    if (n == 0) break;
    size += n;
  }
  if (size == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": is empty"));
  return ContentOfBytes(Text(bytes).substr(0, size));
}

absl::Status NotTextError(const std::string& path, const ContentKind& kind) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": is ", kind.name, ", not text",
                                                 kind.hint.empty() ? "" : "; ", kind.hint));
}

}  // namespace strake
