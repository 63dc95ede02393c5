// PrepareRecord: what a folder of prepared tokens was made of, and how far that has come.
#ifndef STRAKE_DATA_TEXT_PREPARE_RECORD_H_
#define STRAKE_DATA_TEXT_PREPARE_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace strake {

// A text is encoded in pieces. This one is the first that is not in a finished token file.
struct PreparePosition {
  int64_t source = 0;
  int64_t document = 0;  // of the source
  int64_t piece = 0;     // of the document
  bool operator==(const PreparePosition&) const = default;
};

struct PrepareSource {
  std::string path = {};
  bool json_lines = false;
  int64_t num_bytes = 0;    // -1: not known, for what is no regular file
  int64_t modified_ns = 0;  // since 1970
  // Of its inode (ctime), which no program can set. Not known in records of earlier versions: -1.
  int64_t changed_ns = -1;
  int64_t inode = -1;
  std::string fingerprint = {};  // of the whole file; these are known once it has been read
  int64_t num_bad_lines = 0, num_empty_documents = 0;
  std::string first_bad_line = {};
};

struct PrepareFile {
  std::string name = {};
  int64_t num_tokens = 0, num_documents = 0, num_text_bytes = 0;
  // Of conversations: how many of the tokens are answers, which a file beside it says. -1: none.
  int64_t num_answer_tokens = -1;
};

struct PrepareRecord {
  std::string settings = {};  // tokenizer and options, as a text
  std::vector<PrepareSource> sources = {};
  std::vector<PrepareFile> files = {};
  PreparePosition next = {};
};

// The name of a token file; they are numbered from 0.
std::string TokenFileName(size_t number);

// An entry for each file, as it is on the disk now. An error names one that cannot be read.
absl::StatusOr<PrepareSource> DescribeSource(const std::string& path, bool json_lines);

// Whether the sources are the same files, which nobody has changed since: of the same paths, sizes,
// times and inodes. What was begun can go on.
bool SameFiles(const std::vector<PrepareSource>& a, const std::vector<PrepareSource>& b);

// Whether the sources are of the same paths.
bool SamePaths(const std::vector<PrepareSource>& a, const std::vector<PrepareSource>& b);

// Whether the sources hold what `recorded` ones held when they were read. Reads files of the same
// size that are not the same files, and returns Cancelled once stop_requested() is true.
absl::StatusOr<bool> SameContent(const std::vector<PrepareSource>& recorded,
                                 const std::vector<PrepareSource>& sources,
                                 const std::function<bool()>& stop_requested = {});

absl::Status WritePrepareRecord(const std::string& path, const PrepareRecord& record);
// Returns nothing where there is no such file, and DataLoss for one that is damaged: what is
// returned has only counts and positions that a call can have written, and names of token files.
absl::StatusOr<std::optional<PrepareRecord>> ReadPrepareRecord(const std::string& path);
absl::StatusOr<PrepareRecord> ParsePrepareRecord(const std::string& path, const std::string& text);

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_PREPARE_RECORD_H_
