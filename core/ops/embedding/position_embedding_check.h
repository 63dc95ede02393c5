// The check case of position_embedding.
#ifndef STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_CHECK_H_
#define STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck PositionEmbeddingCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_CHECK_H_
