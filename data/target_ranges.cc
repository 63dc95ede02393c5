#include "data/target_ranges.h"

#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/crc32c.h"
#include "core/base/durable_file.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little, "ranges are little-endian");
static_assert(std::is_trivially_copyable_v<TokenRange> && sizeof(TokenRange) == 2 * sizeof(int64_t),
              "ranges are written as they lie in memory");

constexpr char kMagic[8] = {'s', 't', 'r', 'a', 'k', 'e', 't', 'r'};
constexpr int64_t kVersion = 1;

struct Header {
  char magic[sizeof(kMagic)];
  int64_t version, num_tokens, num_ranges;
};
static_assert(sizeof(Header) == 32, "a header has no gaps");

absl::Status Damaged(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what, "; prepare the tokens again"));
}

absl::Status CheckRanges(const std::string& path, const TargetRanges& targets) {
  int64_t previous = -1;
  for (size_t i = 0; i < targets.ranges.size(); ++i) {
    const TokenRange& range = targets.ranges[i];
    if (range.begin > previous && range.begin < range.end && range.end <= targets.num_tokens) {
      previous = range.end;
      continue;
    }
    return Damaged(path, absl::StrCat("range ", i, " is of the tokens [", range.begin, ", ",
                                      range.end, "), after one that ends at ", previous, " and of ",
                                      targets.num_tokens, " tokens"));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t TargetRanges::num_targets() const {
  int64_t sum = 0;
  for (const TokenRange& range : ranges) sum += range.num_tokens();
  return sum;
}

std::string TargetRangesPath(const std::string& token_file) {
  constexpr absl::string_view kExtension = ".bin";
  const size_t stem = absl::EndsWith(token_file, kExtension) ? token_file.size() - kExtension.size()
                                                             : token_file.size();
  return token_file.substr(0, stem) + ".targets";
}

std::string TargetRangesBytes(const TargetRanges& targets) {
  Header header;
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.num_tokens = targets.num_tokens;
  header.num_ranges = static_cast<int64_t>(targets.ranges.size());
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(targets.ranges.data()),
               targets.ranges.size() * sizeof(TokenRange));
  const uint32_t crc = ExtendCrc32c(0, bytes);
  return bytes.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
}

absl::StatusOr<TargetRanges> ParseTargetRanges(const std::string& path, absl::string_view content) {
  Header header;
  uint32_t crc;
  const auto magic = absl::string_view(kMagic, sizeof(kMagic));
  if (!absl::StartsWith(content, magic)) return Damaged(path, "does not begin as targets do");
  if (content.size() < sizeof(header) + sizeof(crc)) return Damaged(path, "is cut off");
  std::memcpy(&header, content.data(), sizeof(header));
  if (header.version != kVersion) {
    return Damaged(path,
                   absl::StrCat("has version ", header.version, ", and ", kVersion, " is known"));
  }
  const int64_t size = content.size() - sizeof(header) - sizeof(crc);
  if (size % sizeof(TokenRange) != 0 || size / sizeof(TokenRange) != header.num_ranges) {
    return Damaged(path, absl::StrCat("has ", size, " bytes of ranges and says that it has ",
                                      header.num_ranges, " ranges of ", sizeof(TokenRange)));
  }
  std::memcpy(&crc, content.data() + content.size() - sizeof(crc), sizeof(crc));
  if (crc != ExtendCrc32c(0, content.substr(0, content.size() - sizeof(crc)))) {
    return Damaged(path, "is damaged: its checksum is another");
  }
  TargetRanges targets;
  targets.num_tokens = header.num_tokens;
  targets.ranges.resize(header.num_ranges);
  if (size > 0) std::memcpy(targets.ranges.data(), content.data() + sizeof(header), size);
  STRAKE_RETURN_IF_ERROR(CheckRanges(path, targets));
  return targets;
}

absl::StatusOr<std::optional<TargetRanges>> ReadTargetRanges(const std::string& token_file,
                                                             int64_t num_tokens) {
  const std::string path = TargetRangesPath(token_file);
  const auto content = ReadFile(path, std::numeric_limits<int64_t>::max());
  if (absl::IsNotFound(content.status())) return std::nullopt;
  if (!content.ok()) return content.status();
  STRAKE_ASSIGN_OR_RETURN(TargetRanges targets, ParseTargetRanges(path, *content));
  if (targets.num_tokens == num_tokens) return targets;
  return Damaged(path, absl::StrCat("is of ", targets.num_tokens, " tokens, and ", token_file,
                                    " has ", num_tokens));
}

absl::Status WriteTargetRanges(const std::string& token_file, const TargetRanges& targets) {
  return WriteFileDurably(TargetRangesPath(token_file), TargetRangesBytes(targets));
}

}  // namespace strake
