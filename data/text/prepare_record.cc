#include "data/text/prepare_record.h"

#include <sys/stat.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/durable_file.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "data/text/byte_source.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kFormat = 1;
constexpr int64_t kMaxCount = int64_t{1} << 48;  // sums of counts do not overflow

ordered_json ToJson(const PrepareSource& source) {
  return {{"path", source.path},
          {"json_lines", source.json_lines},
          {"bytes", source.num_bytes},
          {"modified_ns", source.modified_ns},
          {"changed_ns", source.changed_ns},
          {"inode", source.inode},
          {"fingerprint", source.fingerprint},
          {"bad_lines", source.num_bad_lines},
          {"empty_documents", source.num_empty_documents},
          {"first_bad_line", source.first_bad_line}};
}

ordered_json ToJson(const PrepareFile& file) {
  ordered_json json = {{"name", file.name},
                       {"tokens", file.num_tokens},
                       {"documents", file.num_documents},
                       {"text_bytes", file.num_text_bytes}};
  if (file.num_answer_tokens >= 0) json["answer_tokens"] = file.num_answer_tokens;
  return json;
}

template <typename T>
ordered_json ToJsonArray(const std::vector<T>& items) {
  ordered_json array = ordered_json::array();
  for (const T& item : items) array.push_back(ToJson(item));
  return array;
}

// The members of an object. Once one is missing or of another type, ok() is false.
class Members {
 public:
  Members(const ordered_json& object, bool* ok) : object_(object), ok_(ok) {}

  int64_t Number(const char* name) const {
    const ordered_json* value = Find(name, &ordered_json::is_number_integer);
    return value != nullptr ? value->get<int64_t>() : 0;
  }
  // -1 where it is missing.
  int64_t NumberIfThere(const char* name) const {
    return object_.is_object() && object_.contains(name) ? Number(name) : -1;
  }
  bool Boolean(const char* name) const {
    const ordered_json* value = Find(name, &ordered_json::is_boolean);
    return value != nullptr && value->get<bool>();
  }
  std::string Text(const char* name) const {
    const ordered_json* value = Find(name, &ordered_json::is_string);
    return value != nullptr ? value->get<std::string>() : "";
  }
  // Calls add(members) for each object of a list.
  template <typename Add>
  void ForEach(const char* name, const Add& add) const {
    const ordered_json* list = Find(name, &ordered_json::is_array);
    if (list == nullptr) return;
    for (const ordered_json& item : *list) add(Members(item, ok_));
  }

 private:
  const ordered_json* Find(const char* name, bool (ordered_json::*is_type)() const noexcept) const {
    if (object_.is_object()) {
      const auto found = object_.find(name);
      if (found != object_.end() && ((*found).*is_type)()) return &*found;
    }
    *ok_ = false;
    return nullptr;
  }

  const ordered_json& object_;
  bool* const ok_;
};

bool IsCount(int64_t value) { return value >= 0 && value <= kMaxCount; }

bool IsPossible(const PrepareSource& source) {
  return source.num_bytes >= -1 && source.num_bytes <= kMaxCount && IsCount(source.num_bad_lines) &&
         IsCount(source.num_empty_documents);
}

bool IsPossible(const PrepareFile& file) {
  return IsCount(file.num_tokens) && IsCount(file.num_documents) && IsCount(file.num_text_bytes) &&
         file.num_answer_tokens >= -1 && file.num_answer_tokens <= file.num_tokens;
}

// Whether a call can have written the values, whose types are right.
bool IsPossible(const PrepareRecord& record) {
  for (size_t i = 0; i < record.files.size(); ++i) {
    if (!IsPossible(record.files[i]) || record.files[i].name != TokenFileName(i)) return false;
  }
  return std::all_of(record.sources.begin(), record.sources.end(),
                     [](const PrepareSource& source) { return IsPossible(source); }) &&
         record.next.source >= 0 &&
         record.next.source <= static_cast<int64_t>(record.sources.size()) &&
         IsCount(record.next.document) && IsCount(record.next.piece);
}

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

// Two unknown times of change say nothing.
bool SameFile(const PrepareSource& a, const PrepareSource& b) {
  return a.path == b.path && a.num_bytes == b.num_bytes && a.modified_ns == b.modified_ns &&
         a.changed_ns != -1 && a.changed_ns == b.changed_ns && a.inode == b.inode;
}

}  // namespace

std::string TokenFileName(size_t number) { return absl::StrFormat("tokens-%05d.bin", number); }

absl::StatusOr<PrepareSource> DescribeSource(const std::string& path, bool json_lines) {
  PrepareSource source = {.path = path, .json_lines = json_lines, .num_bytes = -1};
  struct stat info;
  if (path == "-") return source;
  if (stat(path.c_str(), &info) != 0) return SystemError("open", path);
  if (!S_ISREG(info.st_mode)) return source;
  source.num_bytes = info.st_size;
  source.modified_ns = Nanoseconds(info.st_mtim);
  source.changed_ns = Nanoseconds(info.st_ctim);
  source.inode = static_cast<int64_t>(info.st_ino);
  return source;
}

bool SameFiles(const std::vector<PrepareSource>& a, const std::vector<PrepareSource>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.num_bytes >= 0 && x.json_lines == y.json_lines && SameFile(x, y);
  });
}

bool SamePaths(const std::vector<PrepareSource>& a, const std::vector<PrepareSource>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.path == y.path; });
}

absl::StatusOr<bool> SameContent(const std::vector<PrepareSource>& recorded,
                                 const std::vector<PrepareSource>& sources,
                                 const std::function<bool()>& stop_requested) {
  if (recorded.size() != sources.size()) return false;
  for (size_t i = 0; i < sources.size(); ++i) {
    const PrepareSource &a = recorded[i], &b = sources[i];
    if (a.num_bytes < 0 || a.num_bytes != b.num_bytes || a.json_lines != b.json_lines) return false;
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    const PrepareSource &a = recorded[i], &b = sources[i];
    if (SameFile(a, b)) continue;
    STRAKE_ASSIGN_OR_RETURN(const Fingerprint fingerprint,
                            FingerprintOfFile(b.path, stop_requested));
    if (fingerprint.ToString() != a.fingerprint) return false;
  }
  return true;
}

absl::Status WritePrepareRecord(const std::string& path, const PrepareRecord& record) {
  const ordered_json json = {{"format", kFormat},
                             {"settings", record.settings},
                             {"files", ToJsonArray(record.files)},
                             {"next",
                              {{"source", record.next.source},
                               {"document", record.next.document},
                               {"piece", record.next.piece}}},
                             {"sources", ToJsonArray(record.sources)}};
  return WriteFileDurably(path, JsonText(json, 1) + "\n");
}

absl::StatusOr<PrepareRecord> ParsePrepareRecord(const std::string& path, const std::string& text) {
  STRAKE_ASSIGN_OR_RETURN(const ordered_json json, ParseOrderedJson(text, path));
  bool ok = true;
  PrepareRecord record;
  const Members root(json, &ok);
  const bool known = root.Number("format") == kFormat;
  record.settings = root.Text("settings");
  root.ForEach("sources", [&](const Members& source) {
    record.sources.push_back({.path = source.Text("path"),
                              .json_lines = source.Boolean("json_lines"),
                              .num_bytes = source.Number("bytes"),
                              .modified_ns = source.Number("modified_ns"),
                              .changed_ns = source.NumberIfThere("changed_ns"),
                              .inode = source.NumberIfThere("inode"),
                              .fingerprint = source.Text("fingerprint"),
                              .num_bad_lines = source.Number("bad_lines"),
                              .num_empty_documents = source.Number("empty_documents"),
                              .first_bad_line = source.Text("first_bad_line")});
  });
  root.ForEach("files", [&](const Members& file) {
    record.files.push_back({file.Text("name"), file.Number("tokens"), file.Number("documents"),
                            file.Number("text_bytes"), file.NumberIfThere("answer_tokens")});
  });
  const ordered_json next = json.is_object() ? json.value("next", ordered_json()) : ordered_json();
  const Members position(next, &ok);
  record.next = {position.Number("source"), position.Number("document"), position.Number("piece")};
  if (ok && known && IsPossible(record)) return record;
  return absl::DataLossError(absl::StrCat(path, ": is damaged or of another version"));
}

absl::StatusOr<std::optional<PrepareRecord>> ReadPrepareRecord(const std::string& path) {
  const auto text = ReadFile(path, std::numeric_limits<int64_t>::max());
  if (absl::IsNotFound(text.status())) return std::nullopt;
  if (!text.ok()) return text.status();
  return ParsePrepareRecord(path, *text);
}

}  // namespace strake
