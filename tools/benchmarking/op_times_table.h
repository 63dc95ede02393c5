// The table of `benchmark --measure=ops`: the calls of an op, timed and forecast.
#ifndef STRAKE_TOOLS_BENCHMARKING_OP_TIMES_TABLE_H_
#define STRAKE_TOOLS_BENCHMARKING_OP_TIMES_TABLE_H_

#include <cstdint>
#include <string>

#include "core/base/op_profile.h"
#include "train/plan/gpu_rates.h"

namespace strake {

struct OpTimes {
  std::string layer = {}, op = {}, shapes = {};
  int64_t times = 0;   // equal calls in a step
  double seconds = 0;  // of one
  OpCost cost = {};
  Forecast forecast = {};  // zeros: none
};

// The heading, and an op's row, with the line's end. Of fewer columns than a row of the table has,
// an op has a line of its names and one of its numbers, and there is no heading. 0: of any number.
std::string OpTimesHeading(int columns);
std::string OpTimesRow(const OpTimes& op, int columns);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_OP_TIMES_TABLE_H_
