// Takes any text as a log: each of its lines that ReadStepLine() takes gives the curves that it
// gives as JSON, and the log gives JSON, or none.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "core/base/json.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "train/report/run_curves.h"
#include "train/report/run_history.h"
#include "train/report/step_line.h"

namespace strake {
namespace {

constexpr int64_t kMaxStep = int64_t{1} << 53;

void CompareLine(absl::string_view text) {
  StepLine line;
  if (!ReadStepLine(text, kMaxStep, &line)) return;
  RunCurves read, parsed;
  read.AddStepLine(line);
  const auto json = ParseJsonLine(text, "fuzz");
  CHECK(json.ok()) << json.status();
  CHECK(parsed.AddLine(*json)) << text;
  CHECK_EQ(read.Json(100), parsed.Json(100));
  CHECK(read.epoch() == parsed.epoch() && read.time() == parsed.time());
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  strake::RunCurves all;
  strake::RunHistory history;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    strake::CompareLine(line);
    if (const auto json = strake::ParseJsonLine(line, "fuzz"); json.ok()) all.AddLine(*json);
    if (const auto json = strake::ParseOrderedJson(line, "fuzz"); json.ok()) history.Add(*json);
  }
  CHECK(nlohmann::json::accept(all.Json(/*max_parts=*/3)));
  CHECK(history.Members().is_object());
  return 0;
}
