// RunHistory: OUT/report.jsonl, what a report shows beside the numbers of metrics.jsonl.
//
//   {"kind":"plan","time":T,"version":"..","model":"..","data":"..","layout":"..","machine":"..",
//    "memory":[{"name":"weights","bytes":N},..],"collectives":[{"phase":..,"axis":..,"ranks":..,
//    "collective":..,"calls":..,"bytes":..,"ring_bytes":..},..]}           (one line)
//   {"kind":"KIND","time":T,"step":N,"text":".."}
//   {"kind":"communicated","step":N,"collectives":[{"axis":..,"collective":..,"calls":..,
//    "bytes":..},..]}                                                      (one line)
//   {"kind":"ops","step":N,"seconds":S,"ops":[{"op":..,"pass":..,"calls":N,"seconds":S,"flops":X,
//    "bytes":X,"limit":S},..]}                                             (one line)
//   {"kind":"memory","observed":"..","bytes":N,"ranks":N}
//   {"kind":"sample","step":N,"prompt":"..","continuation":".."}
//
// T is in seconds since 1970; KIND is started, resumed, stopped, finished, warning or note. A limit
// is the least time that the op's flops and bytes take; 0: not known. A run that resumes appends:
// of the plans, the ops, the memory and what was communicated the last one counts, and of the
// samples those whose steps were not made once more.
#ifndef STRAKE_TRAIN_REPORT_RUN_HISTORY_H_
#define STRAKE_TRAIN_REPORT_RUN_HISTORY_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace strake {

inline constexpr char kHistoryName[] = "report.jsonl";
// What is read of it, so that no more is written.
inline constexpr int64_t kMaxHistoryBytes = int64_t{256} << 20;

class RunHistory {
 public:
  // Takes an object that report.jsonl has. Others are left out.
  void Add(const nlohmann::ordered_json& record);

  // "started", "resumed", "stopped", "finished": the last of the events that is one of these; ""
  // where there is none.
  std::string LastState() const;

  // What is known, as members of a run in a report's data: those of the plan, and "memory",
  // "collectives", "ops", "events" and "samples". More than 500 events or samples are cut to the
  // first and the last ones.
  nlohmann::ordered_json Members() const;

 private:
  nlohmann::ordered_json plan_, memory_, communicated_, ops_;
  nlohmann::ordered_json events_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json samples_ = nlohmann::ordered_json::array();
};

// Reads the file of a run, also while the run appends to it: lines that are none of it are left
// out. A file that is not there is an empty history. Errors are ReadFile()'s.
absl::StatusOr<RunHistory> ReadRunHistory(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_RUN_HISTORY_H_
