#include "parallel/comm/mpi/mpi_message.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The longest text; the rest of kMaxMpiMessageTextBytes is for parts of fixed size.
constexpr size_t kMaxTextBytes = 1800;

// The parts of fixed size, in the order in which the others follow.
struct Fixed {
  MpiMessage::Type type;
  CollectiveKind kind;
  DType dtype;
  Device device;
  bool aborted;
  int from, peer, color, key, line, tag, failure_code;
  uint64_t group, offered_id;
  int64_t sequence, count;
  int64_t num_counts, num_recv_counts, file_bytes, failure_bytes, payload_bytes;
};
static_assert(std::is_trivially_copyable_v<Fixed>);
static_assert(sizeof(Fixed) + kMaxTextBytes <= kMaxMpiMessageTextBytes);

void Append(std::string& bytes, const void* data, size_t num_bytes) {
  bytes.append(static_cast<const char*>(data), num_bytes);
}

class Reader {
 public:
  explicit Reader(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  void Read(T* data, int64_t count) {
    const int64_t num_bytes = count * static_cast<int64_t>(sizeof(T));
    CHECK(count >= 0 && num_bytes <= static_cast<int64_t>(bytes_.size()))
        << "[mpi] a message lacks " << num_bytes << " bytes, and has " << bytes_.size()
        << ": do all processes run the same program?";
    if (num_bytes > 0) std::memcpy(data, bytes_.data(), num_bytes);
    bytes_.remove_prefix(num_bytes);
  }

  template <typename Container>
  Container Read(int64_t count) {
    CHECK_LE(count, static_cast<int64_t>(bytes_.size())) << "[mpi] a broken message";
    Container values(count, {});
    Read(values.data(), count);
    return values;
  }

 private:
  absl::Span<const std::byte> bytes_;
};

// A call site points at a literal; file names from other processes are kept here, one copy each.
const char* Interned(std::string file) {
  static std::mutex mutex;
  static auto* const files = new std::set<std::string>;
  const std::lock_guard<std::mutex> lock(mutex);
  return files->insert(std::move(file)).first->c_str();
}

}  // namespace

std::string EncodeMpiMessage(const MpiMessage& message) {
  const CollectiveCall& call = message.call;
  const absl::string_view file = absl::string_view(call.site.file).substr(0, kMaxTextBytes);
  const absl::string_view failure =
      message.failure.message().substr(0, kMaxTextBytes - file.size());
  Fixed fixed;
  std::memset(&fixed, 0, sizeof(fixed));  // its padding is sent too
  fixed.type = message.type;
  fixed.kind = call.kind;
  fixed.dtype = call.dtype;
  fixed.device = call.device;
  fixed.aborted = message.aborted;
  fixed.from = message.from;
  fixed.peer = call.peer;
  fixed.color = call.color;
  fixed.key = call.key;
  fixed.line = call.site.line;
  fixed.tag = message.tag;
  fixed.failure_code = static_cast<int>(message.failure.code());
  fixed.group = message.group;
  fixed.offered_id = message.offered_id;
  fixed.sequence = call.sequence;
  fixed.count = call.count;
  fixed.num_counts = static_cast<int64_t>(call.counts.size());
  fixed.num_recv_counts = static_cast<int64_t>(call.recv_counts.size());
  fixed.file_bytes = static_cast<int64_t>(file.size());
  fixed.failure_bytes = static_cast<int64_t>(failure.size());
  fixed.payload_bytes = static_cast<int64_t>(message.payload.size());

  std::string bytes;
  Append(bytes, &fixed, sizeof(fixed));
  Append(bytes, call.counts.data(), call.counts.size() * sizeof(int64_t));
  Append(bytes, call.recv_counts.data(), call.recv_counts.size() * sizeof(int64_t));
  Append(bytes, file.data(), file.size());
  Append(bytes, failure.data(), failure.size());
  Append(bytes, message.payload.data(), message.payload.size());
  return bytes;
}

MpiMessage DecodeMpiMessage(absl::Span<const std::byte> bytes) {
  Reader reader(bytes);
  Fixed fixed;
  reader.Read(&fixed, 1);
  MpiMessage message{.type = fixed.type, .group = fixed.group, .from = fixed.from};
  message.aborted = fixed.aborted;
  message.tag = fixed.tag;
  message.offered_id = fixed.offered_id;
  CollectiveCall& call = message.call;
  call.kind = fixed.kind;
  call.sequence = fixed.sequence;
  call.dtype = fixed.dtype;
  call.device = fixed.device;
  call.count = fixed.count;
  call.peer = fixed.peer;
  call.color = fixed.color;
  call.key = fixed.key;
  call.counts = reader.Read<std::vector<int64_t>>(fixed.num_counts);
  call.recv_counts = reader.Read<std::vector<int64_t>>(fixed.num_recv_counts);
  call.site = {.file = Interned(reader.Read<std::string>(fixed.file_bytes)), .line = fixed.line};
  const auto failure = reader.Read<std::string>(fixed.failure_bytes);
  message.failure = absl::Status(static_cast<absl::StatusCode>(fixed.failure_code), failure);
  message.payload = reader.Read<std::vector<std::byte>>(fixed.payload_bytes);
  return message;
}

}  // namespace strake
