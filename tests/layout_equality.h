// What it means that a layout trains the model that one rank trains.
#ifndef STRAKE_TESTS_LAYOUT_EQUALITY_H_
#define STRAKE_TESTS_LAYOUT_EQUALITY_H_

#include <functional>

#include "tests/layout_case.h"

namespace strake::testing {

// Of numbers of step 1, 2, ...; of what is left after the last step, that of the next one.
using StepTolerance = std::function<double(int step)>;

// Trains both, and fails the test unless every loss, gradient norm, gradient and weight is that of
// the one rank, each rank that holds an element has its bits, and every element is held.
void ExpectTrainsTheModelOfOneRank(const LayoutCase& layout, const LayoutCase& one_rank_layout,
                                   const StepTolerance& tolerance_at);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_LAYOUT_EQUALITY_H_
