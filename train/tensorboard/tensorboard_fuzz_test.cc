// For any bytes, reading them as an event file ends with records that are written to the same
// bytes, and with events that are the same after writing and reading them.
#include <cstddef>
#include <cstdint>
#include <string>

#include "glog/logging.h"
#include "train/tensorboard/tensorboard_event.h"
#include "train/tensorboard/tensorboard_record.h"

namespace strake {
namespace {

// A mutation of a record hardly keeps its checksums, so its data is parsed all the same.
void Parse(absl::string_view data) {
  const auto event = ParseTensorBoardEvent(data);
  if (!event.ok()) {
    CHECK(!event.status().message().empty());
    return;
  }
  const std::string written = EncodeTensorBoardEvent(*event);
  const auto again = ParseTensorBoardEvent(written);
  CHECK(again.ok()) << again.status();
  // Not the events: a NaN differs from itself, and bytes that are no UTF-8 are replaced.
  CHECK(EncodeTensorBoardEvent(*again) == written);
}

void TakeAll(absl::string_view file) {
  while (!file.empty()) {
    const absl::string_view before = file;
    const auto data = TakeTensorBoardRecord(&file);
    CHECK(data.ok() || absl::IsOutOfRange(data.status()) || absl::IsDataLoss(data.status()));
    if (data.ok()) {
      std::string record;
      AppendTensorBoardRecord(*data, &record);
      CHECK(record == before.substr(0, record.size()));
      CHECK_EQ(before.size() - file.size(), record.size());
      Parse(*data);
    }
    if (file.size() == before.size()) return;
  }
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  strake::TakeAll(bytes);
  // The first record's data begins here.
  for (const size_t begin : {size_t{0}, size_t{12}}) {
    if (begin <= size) strake::Parse(bytes.substr(begin));
  }
  return 0;
}
