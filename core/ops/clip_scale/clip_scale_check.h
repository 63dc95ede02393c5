// The check case of clip_scale.
#ifndef STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_CHECK_H_
#define STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_CHECK_H_

#include "core/device/op_call.h"
#include "core/ops/check/op_check.h"

namespace strake {

OpCheck ClipScaleCheck(const OpCall& call);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_CHECK_H_
