#include "data/text/line_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "data/text/file_content.h"

namespace strake {
namespace {

constexpr size_t kPartBytes = 1 << 20;
constexpr absl::string_view kMark = "\xef\xbb\xbf";

}  // namespace

SourceWindow::SourceWindow(ByteSource* source) : source_(source), buffer_(kPartBytes) {}

absl::Status SourceWindow::Start() {
  STRAKE_RETURN_IF_ERROR(Fill());
  const ContentKind kind = ContentOfBytes(bytes());
  if (kind.content != FileContent::kText) return NotTextError(source_->name(), kind);
  if (absl::StartsWith(bytes(), kMark)) Take(kMark.size());
  return absl::OkStatus();
}

absl::Status SourceWindow::Fill() {
  if (begin_ == 0 && end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= std::exchange(begin_, 0);
  const size_t room = buffer_.size() - end_;
  STRAKE_ASSIGN_OR_RETURN(const size_t n, source_->Read(buffer_.data() + end_, room));
  end_ += n;
  ended_ = n < room;
  return absl::OkStatus();
}

absl::StatusOr<bool> LineReader::Next(absl::string_view* line) {
  size_t searched = 0;
  while (true) {
    const absl::string_view bytes = window_.bytes();
    const size_t end = bytes.find('\n', searched);
    if (end != absl::string_view::npos || (window_.ended() && !bytes.empty())) {
      offset_ = window_.offset();
      *line = bytes.substr(0, end);
      window_.Take(std::min(end, bytes.size() - 1) + 1);
      ++number_;
      return true;
    }
    if (window_.ended()) return false;
    searched = bytes.size();
    STRAKE_RETURN_IF_ERROR(window_.Fill());
  }
}

std::string LineReader::place() const { return absl::StrCat(name_, ": line ", number_); }

std::optional<int64_t> LineAt(const std::string& path, int64_t offset) {
  const auto kind = PathKindOf(path);
  if (!kind.ok() || *kind != PathKind::kFile) return std::nullopt;
  const auto source = ByteSource::Open(path);
  if (!source.ok()) return std::nullopt;
  LineReader lines(source->get());
  if (!lines.Start().ok()) return std::nullopt;
  while (true) {
    absl::string_view line;
    const auto more = lines.Next(&line);
    if (!more.ok() || !*more || lines.offset() > offset) return std::nullopt;
    if (lines.offset() == offset) return lines.number();
  }
}

}  // namespace strake
