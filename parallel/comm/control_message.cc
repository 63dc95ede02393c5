#include "parallel/comm/control_message.h"

#include <cstring>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

using Type = ControlMessage::Type;

// The longest text; the rest of kMaxControlTextBytes is for parts of fixed size.
constexpr size_t kMaxTextBytes = 1800;
// Other call sites of one program would be a surprise.
constexpr size_t kMaxFiles = 4096;

// The parts of fixed size, in the order in which the others follow. Enums and flags are plain
// bytes: as themselves, other values would be undefined.
struct Fixed {
  uint8_t type, kind, dtype, device, flag;
  int from, to, peer, color, key, line, failure_code;
  uint64_t group, offered_id;
  int64_t tag, sequence, count;
  int64_t num_counts, num_recv_counts, file_bytes, axis_bytes, failure_bytes, payload_bytes,
      num_progress;
};
static_assert(std::is_trivially_copyable_v<Fixed>);
static_assert(std::is_trivially_copyable_v<CallProgress>);
static_assert(sizeof(Fixed) + kMaxTextBytes <= kMaxControlTextBytes);

void Append(std::string& bytes, const void* data, size_t num_bytes) {
  if (num_bytes > 0) bytes.append(static_cast<const char*>(data), num_bytes);
}

absl::Status Broken(const std::string& how) {
  return absl::InvalidArgumentError(
      absl::StrCat("it sent a message ", how, ": do all processes run the same program?"));
}

class Reader {
 public:
  explicit Reader(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  absl::Status Read(const char* what, int64_t count, T* data) {
    STRAKE_RETURN_IF_ERROR(CheckLeft(what, count, sizeof(T)));
    const size_t num_bytes = count * sizeof(T);
    if (num_bytes > 0) std::memcpy(data, bytes_.data(), num_bytes);
    bytes_.remove_prefix(num_bytes);
    return absl::OkStatus();
  }

  template <typename Container>
  absl::Status ReadAll(const char* what, int64_t count, Container* values) {
    STRAKE_RETURN_IF_ERROR(CheckLeft(what, count, sizeof(typename Container::value_type)));
    values->resize(count);
    return Read(what, count, values->data());
  }

  absl::Status CheckEnd() const {
    return bytes_.empty() ? absl::OkStatus()
                          : Broken(absl::StrCat("with ", bytes_.size(), " bytes after its end"));
  }

 private:
  absl::Status CheckLeft(const char* what, int64_t count, size_t element_bytes) const {
    if (count >= 0 && static_cast<uint64_t>(count) <= bytes_.size() / element_bytes) {
      return absl::OkStatus();
    }
    return Broken(absl::StrCat("with ", count, " ", absl::string_view(what), " in ", bytes_.size(),
                               " bytes"));
  }

  absl::Span<const std::byte> bytes_;
};

absl::Status CheckEnum(const char* what, int value, int num_values) {
  return value >= 0 && value < num_values
             ? absl::OkStatus()
             : Broken(absl::StrCat("whose ", absl::string_view(what), " is ", value));
}

absl::Status CheckEnums(const Fixed& fixed) {
  STRAKE_RETURN_IF_ERROR(CheckEnum("type", fixed.type, static_cast<int>(Type::kAnswer) + 1));
  STRAKE_RETURN_IF_ERROR(CheckEnum("kind", fixed.kind, kNumCollectiveKinds));
  STRAKE_RETURN_IF_ERROR(CheckEnum("dtype", fixed.dtype, static_cast<int>(DType::kU16) + 1));
  STRAKE_RETURN_IF_ERROR(CheckEnum("device", fixed.device, static_cast<int>(Device::kCuda) + 1));
  STRAKE_RETURN_IF_ERROR(CheckEnum("flag", fixed.flag, 2));
  STRAKE_RETURN_IF_ERROR(CheckEnum("status", fixed.failure_code,
                                   static_cast<int>(absl::StatusCode::kUnauthenticated) + 1));
  const bool failed = fixed.failure_code != 0;
  if (failed == (static_cast<Type>(fixed.type) == Type::kFail)) return absl::OkStatus();
  return Broken(absl::StrCat("of type ", fixed.type, " whose status is ", fixed.failure_code));
}

// A call site points at a literal; file names from other processes are kept here, one copy each.
const char* Interned(const std::string& file) {
  static std::mutex mutex;
  static auto* const files = new std::map<std::string, std::string>;  // as errors show them
  const std::lock_guard<std::mutex> lock(mutex);
  auto entry = files->find(file);
  if (entry == files->end()) {
    if (files->size() == kMaxFiles) return "a file";
    entry = files->emplace(file, Printable(file)).first;
  }
  return entry->second.c_str();
}

}  // namespace

std::string EncodeControlMessage(const ControlMessage& message) {
  const CollectiveCall& call = message.call;
  size_t left = kMaxTextBytes;
  const auto cut = [&left](absl::string_view text) {
    text = text.substr(0, left);
    left -= text.size();
    return text;
  };
  const absl::string_view file = cut(call.site.file);
  const absl::string_view axis = cut(message.axis);
  const absl::string_view failure = cut(message.failure.message());
  Fixed fixed;
  std::memset(&fixed, 0, sizeof(fixed));  // its padding is sent too
  fixed.type = static_cast<uint8_t>(message.type);
  fixed.kind = static_cast<uint8_t>(call.kind);
  fixed.dtype = static_cast<uint8_t>(call.dtype);
  fixed.device = static_cast<uint8_t>(call.device);
  fixed.flag = message.flag ? 1 : 0;
  fixed.from = message.from;
  fixed.to = message.to;
  fixed.peer = call.peer;
  fixed.color = call.color;
  fixed.key = call.key;
  fixed.line = call.site.line;
  fixed.failure_code = static_cast<int>(message.failure.code());
  fixed.group = message.group;
  fixed.offered_id = message.offered_id;
  fixed.tag = message.tag;
  fixed.sequence = call.sequence;
  fixed.count = call.count;
  fixed.num_counts = static_cast<int64_t>(call.counts.size());
  fixed.num_recv_counts = static_cast<int64_t>(call.recv_counts.size());
  fixed.file_bytes = static_cast<int64_t>(file.size());
  fixed.axis_bytes = static_cast<int64_t>(axis.size());
  fixed.failure_bytes = static_cast<int64_t>(failure.size());
  fixed.payload_bytes = static_cast<int64_t>(message.payload.size());
  fixed.num_progress = static_cast<int64_t>(message.progress.size());

  std::string bytes;
  bytes.reserve(sizeof(fixed) + (call.counts.size() + call.recv_counts.size()) * sizeof(int64_t) +
                file.size() + axis.size() + failure.size() + message.payload.size() +
                message.progress.size() * sizeof(CallProgress));
  Append(bytes, &fixed, sizeof(fixed));
  Append(bytes, call.counts.data(), call.counts.size() * sizeof(int64_t));
  Append(bytes, call.recv_counts.data(), call.recv_counts.size() * sizeof(int64_t));
  Append(bytes, file.data(), file.size());
  Append(bytes, axis.data(), axis.size());
  Append(bytes, failure.data(), failure.size());
  Append(bytes, message.payload.data(), message.payload.size());
  Append(bytes, message.progress.data(), message.progress.size() * sizeof(CallProgress));
  return bytes;
}

absl::StatusOr<ControlMessage> DecodeControlMessage(absl::Span<const std::byte> bytes) {
  Reader reader(bytes);
  Fixed fixed;
  STRAKE_RETURN_IF_ERROR(reader.Read("header", 1, &fixed));
  STRAKE_RETURN_IF_ERROR(CheckEnums(fixed));
  ControlMessage message{.type = static_cast<Type>(fixed.type),
                         .group = fixed.group,
                         .from = fixed.from,
                         .to = fixed.to};
  message.flag = fixed.flag == 1;
  message.tag = fixed.tag;
  message.offered_id = fixed.offered_id;
  CollectiveCall& call = message.call;
  call.kind = static_cast<CollectiveKind>(fixed.kind);
  call.sequence = fixed.sequence;
  call.dtype = static_cast<DType>(fixed.dtype);
  call.device = static_cast<Device>(fixed.device);
  call.count = fixed.count;
  call.peer = fixed.peer;
  call.color = fixed.color;
  call.key = fixed.key;
  std::string file, failure;
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("counts", fixed.num_counts, &call.counts));
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("counts", fixed.num_recv_counts, &call.recv_counts));
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("characters", fixed.file_bytes, &file));
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("characters", fixed.axis_bytes, &message.axis));
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("characters", fixed.failure_bytes, &failure));
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("bytes of data", fixed.payload_bytes, &message.payload));
  STRAKE_RETURN_IF_ERROR(reader.ReadAll("counters", fixed.num_progress, &message.progress));
  STRAKE_RETURN_IF_ERROR(reader.CheckEnd());
  // Errors show these texts. Most messages have none.
  if (!message.axis.empty()) message.axis = Printable(message.axis);
  call.site = {.file = Interned(file), .line = fixed.line};
  if (fixed.failure_code != 0) {
    message.failure =
        absl::Status(static_cast<absl::StatusCode>(fixed.failure_code), Printable(failure));
  }
  return message;
}

}  // namespace strake
