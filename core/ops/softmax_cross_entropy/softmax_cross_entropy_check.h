// The check cases of softmax_cross_entropy and its parts on a slice of the vocabulary.
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CHECK_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck SoftmaxCrossEntropyCheck(const OpCall& call);
OpCheck SoftmaxSliceMaxCheck(const OpCall& call);
OpCheck SoftmaxSliceSumsCheck(const OpCall& call);
OpCheck SoftmaxFromSumsCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_CHECK_H_
