// For any text, parsing a run.json returns an error, or a record that is the same after writing and
// reading it.
#include <cstddef>
#include <cstdint>

#include "glog/logging.h"
#include "train/run/run_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto record = strake::ParseRunRecord(text, "fuzz");
  if (!record.ok()) {
    CHECK(!record.status().message().empty());
    return 0;
  }
  CHECK_GE(record->step, 0);
  CHECK_GE(record->samples, 0);
  const auto again = strake::ParseRunRecord(strake::ToJson(*record), "again");
  CHECK(again.ok()) << again.status();
  CHECK(strake::CheckSameRun(record->identity, again->identity, "fuzz").ok());
  return 0;
}
