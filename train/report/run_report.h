// RunReport: report.html, a page that shows one run or compares several.
//
// The page is one file that loads nothing else. It holds its data as JSON, in the script element
// with the id "data":
//
//   {"format_version":1,"runs":[{"name":"..","state":"..","step":N,"steps":N,"epoch":E,
//     "time":T,"config":{..},"curves":[..], and RunHistory::Members()},..]}
//
// "curves" is RunCurves::Json(), "config" that of run.json; "steps", "epoch" and "time" (of
// the last step, in seconds since 1970) are there where they are known. "<" is written as "\u003c".
#ifndef STRAKE_TRAIN_REPORT_RUN_REPORT_H_
#define STRAKE_TRAIN_REPORT_RUN_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "train/report/run_curves.h"
#include "train/report/run_history.h"

namespace strake {

struct RunReport {
  std::string name = {};
  std::string state = {};  // "running", "stopped", "finished", "unfinished": killed, or running
  int64_t num_steps = 0;   // of the run in all; 0: not known
  nlohmann::ordered_json config = nlohmann::ordered_json::object();
  RunCurves curves = {};
  RunHistory history = {};
};

// Reads the files of a run, which may be running: metrics.jsonl, and where they are there run.json
// and report.jsonl. Lines of metrics.jsonl that could not be read, or were of steps that the run
// made once more (ReadRunCurves()), are told as an event. NotFound without metrics.jsonl;
// FailedPrecondition where no line of it can be read. Errors name the file.
absl::StatusOr<RunReport> ReadRunReport(const std::string& directory);

// The page. Together, its curves have at most about 60 thousand points: where there are more, each
// keeps its highest and lowest ones (train/report/curve.h).
std::string ReportPage(const std::vector<const RunReport*>& runs);

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_RUN_REPORT_H_
