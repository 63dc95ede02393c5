// Pictures of a pipeline's schedule, in characters and as SVG.
#ifndef STRAKE_TOOLS_SCHEDULING_SCHEDULE_PICTURE_H_
#define STRAKE_TOOLS_SCHEDULING_SCHEDULE_PICTURE_H_

#include <string>

#include "parallel/pipeline/simulation.h"

namespace strake {

// The columns that the picture has if it is not broken into panels: many where times differ much.
double ColumnsOfSchedule(const PipelineSimulation& simulation, bool has_chunks);

// A line per stage, in panels of at most `columns` columns where that is enough for one pass:
//
//   stage 0  F0 F1 F2 F3 ......... B0 W0 F4
//   stage 1  .. F0 F1 F2 ...... B0 W0 F3 B1
//
// F, B and W are forward passes, input gradients and weight gradients, with the micro-batch, and
// behind it a, b, .. for the chunk where there are several. Points are waits.
std::string TextOfSchedule(const PipelineSimulation& simulation, bool has_chunks, int columns);

// A drawing on its own: a row per stage and a rectangle per pass, which says what it is when the
// mouse is over it.
std::string SvgOfSchedule(const PipelineSimulation& simulation, bool has_chunks);

}  // namespace strake

#endif  // STRAKE_TOOLS_SCHEDULING_SCHEDULE_PICTURE_H_
