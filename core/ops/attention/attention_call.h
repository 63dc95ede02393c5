// The shape of an attention as attributes of its calls.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_

#include "core/device/op_call.h"
#include "core/ops/attention/attention_shape.h"

namespace strake {

inline void SetAttentionShape(const AttentionShape& shape, OpCall* call) {
  call->Set("batch", shape.batch).Set("seq_len", shape.seq_len).Set("num_heads", shape.num_heads);
  call->Set("num_kv_heads", shape.num_kv_heads).Set("head_dim", shape.head_dim);
  // Only what a model has, so that the calls of others keep their texts.
  if (shape.window != 0) call->Set("window", shape.window);
  if (shape.score_scale != 0) call->Set("score_scale", shape.score_scale);
  if (shape.score_softcap != 0) call->Set("score_softcap", shape.score_softcap);
}

inline AttentionShape GetAttentionShape(const OpCall& call) {
  return {.batch = call.GetInt("batch"),
          .seq_len = call.GetInt("seq_len"),
          .num_heads = call.GetInt("num_heads"),
          .num_kv_heads = call.GetInt("num_kv_heads"),
          .head_dim = call.GetInt("head_dim"),
          .window = static_cast<int64_t>(call.GetOr("window", 0)),
          .score_scale = call.GetOr("score_scale", 0),
          .score_softcap = call.GetOr("score_softcap", 0)};
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_
