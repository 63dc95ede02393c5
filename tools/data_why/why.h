// Tells which documents the tokens of a training step came from.
#ifndef STRAKE_TOOLS_DATA_WHY_WHY_H_
#define STRAKE_TOOLS_DATA_WHY_WHY_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "core/base/work_state.h"

namespace strake {

struct WhyOptions {
  std::string run = {};  // the directory of a run or a checkpoint, with its run.json
  int64_t step = 0;      // from 1, as in metrics.jsonl
  int64_t row = -1;      // of the step's global batch, from 0; -1: all
  bool tokens = false;   // a line for each token, too
  bool list = false;     // the documents' names alone, as a list of documents to skip
};

// Prints, for each row, the parts of documents in it, or with `list` the names of the documents of
// all rows, each once. An error names a step or row that the run does not have, what of the run's
// files is missing, and data that is not what the run was trained on. Tells of the data that it
// reads first, and of the end of that, with an empty state.
absl::Status PrintWhy(const WhyOptions& options, std::ostream* out,
                      const OnWork& on_work = nullptr);

}  // namespace strake

#endif  // STRAKE_TOOLS_DATA_WHY_WHY_H_
