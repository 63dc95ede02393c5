// Checks that a layout trains the same model as one rank.
#ifndef STRAKE_TESTS_LAYOUT_EQUALITY_H_
#define STRAKE_TESTS_LAYOUT_EQUALITY_H_

#include <functional>
#include <vector>

#include "tests/full_tensors.h"
#include "tests/layout_case.h"
#include "tests/train_layout.h"

namespace strake::testing {

// The tolerance of numbers of step 1, 2, ...; for values after the last step, that of the next
// step.
using StepTolerance = std::function<double(int step)>;

// Assembles all ranks' gradients of step 1, 2, ..., or their weights, without gaps and padding.
FullTensors JoinGrads(const LayoutCase& layout, const std::vector<RankRecord>& ranks, int step);
FullTensors JoinWeights(const LayoutCase& layout, const std::vector<RankRecord>& ranks);

// Trains both, and fails the test unless every loss, gradient norm, gradient and weight matches the
// one rank's, each rank that holds an element has the same bits, and every element is held.
void ExpectTrainsTheModelOfOneRank(const LayoutCase& layout, const LayoutCase& one_rank_layout,
                                   const StepTolerance& tolerance_at);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_LAYOUT_EQUALITY_H_
